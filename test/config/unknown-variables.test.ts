import t from 'tap';
import { unknownVariables } from '../../src/config/unknown-variables.js';

t.test('a variable that begins like an option and is none is found, with the one that was meant', async (t) => {
  t.strictSame(unknownVariables({ HOLDFAST_HOLDTTL: '5m', HOLDFAST_FOO: '1', PATH: '/bin', HOLDFAS_LISTEN: '/l' }), [
    { variable: 'HOLDFAST_HOLDTTL', nearest: 'HOLDFAST_HOLD_TTL' },
    { variable: 'HOLDFAST_FOO', nearest: undefined },
  ]);
});

t.test('options, the config file and empty variables are no mistake', async (t) => {
  t.strictSame(
    unknownVariables({ HOLDFAST_LISTEN: '/l', HOLDFAST_CONFIG: '/c', HOLDFAST_FOO: '', HOLDFAST_BAR: undefined }),
    [],
  );
});

t.test('what Kubernetes sets for services is no mistake', async (t) => {
  t.strictSame(
    unknownVariables({
      HOLDFAST_SERVICE_HOST: '10.0.0.1',
      HOLDFAST_SERVICE_PORT: '9090',
      HOLDFAST_SERVICE_PORT_HTTP: '9090',
      HOLDFAST_PORT: 'tcp://10.0.0.1:9090',
      HOLDFAST_PORT_9090_TCP: 'tcp://10.0.0.1:9090',
      HOLDFAST_PORT_9090_TCP_PROTO: 'tcp',
      HOLDFAST_PORT_9090_TCP_ADDR: '10.0.0.1',
      HOLDFAST_METRICS_SERVICE_HOST: '10.0.0.1',
      HOLDFAST_METRICS_PORT: 'tcp://10.0.0.1:9090',
    }),
    [],
  );
  t.match(unknownVariables({ HOLDFAST_PORT: '9090' }), [{ variable: 'HOLDFAST_PORT' }], 'but this is somebody');
});

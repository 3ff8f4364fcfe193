import t from 'tap';
import { BdpEstimator, bdpPayload, PingPolice } from './grpc-go.js';

t.test('a bandwidth estimator sends one PING at a time, for DATA', async (t) => {
  const estimator = new BdpEstimator();
  t.strictSame([estimator.received(), estimator.received()], [true, false]);
  estimator.acknowledged(Buffer.from('whatever'));
  t.notOk(estimator.received(), 'the ACK of another PING says nothing');
  estimator.acknowledged(bdpPayload);
  t.ok(estimator.received(), 'the next one behind the ACK');
});

t.test('the third strike ends a connection, unless content of the server comes in between', async (t) => {
  const silent = new PingPolice();
  t.strictSame(
    [1, 2, 3, 4].map(() => silent.received()),
    [false, false, false, true],
    'the first one is free',
  );

  const talking = new PingPolice();
  const pings = Array.from({ length: 20 }, (_, at) => {
    if (at % 3 === 0) talking.sent();
    return talking.received();
  });
  t.notOk(pings.includes(true));
});

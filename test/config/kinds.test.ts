import t from 'tap';
import {
  address,
  annotationName,
  collector,
  count,
  directory,
  duration,
  endpoint,
  fileMode,
  flag,
  handlerLimit,
  listOf,
  namespace,
  orOff,
  parseDuration,
  percent,
  rate,
} from '../../src/config/kinds.js';

t.test('durations are whole numbers with units, largest first', async (t) => {
  const good: [string, number][] = [
    ['0s', 0],
    ['250ms', 250],
    ['90s', 90_000],
    ['5m', 300_000],
    ['1h30m', 5_400_000],
    ['1h2m3s4ms', 3_723_004],
    ['24h', 86_400_000],
    ['1m5ms', 60_005],
  ];
  for (const [text, ms] of good) t.equal(parseDuration(text), ms, text);
  for (const text of ['', '90', 's', '1.5h', '-1s', '1m1h', '1s1s', '5 m', '5M', '1d', '1e3s', ' 5m', '٣s', '5m\n']) {
    t.equal(parseDuration(text), undefined, JSON.stringify(text));
  }
});

t.test('a duration outside its bounds is refused, the bounds themselves are not', async (t) => {
  const kind = duration('1s', '1h');
  t.equal(kind.parse('1s'), 1000);
  t.equal(kind.parse('60m'), 3_600_000);
  t.equal(kind.parse('999ms'), undefined);
  t.equal(kind.parse('1h1ms'), undefined);
  t.equal(kind.parse(`${'9'.repeat(400)}h`), undefined);
});

t.test('all notations of a unix socket mean the same path', async (t) => {
  for (const text of ['unix:///run/x.sock', 'unix:/run/x.sock', '/run/x.sock', '/run//y/../x.sock']) {
    t.equal(endpoint.parse(text), '/run/x.sock', text);
  }
});

t.test('what is not a unix socket is refused as an endpoint', async (t) => {
  for (const text of [
    '',
    'unix:',
    'unix://',
    'unix://run/x',
    'tcp://127.0.0.1:1',
    'npipe:////./pipe/x',
    'http:x',
    'unix:run/x.sock',
    'run/x.sock',
    './run/x.sock',
    '~/x.sock',
    '@x',
    'a\0b',
  ]) {
    t.equal(endpoint.parse(text), undefined, JSON.stringify(text));
  }
});

t.test('a socket path has at most 107 bytes, counted in bytes', async (t) => {
  t.equal(endpoint.parse(`/${'a'.repeat(106)}`), `/${'a'.repeat(106)}`);
  t.equal(endpoint.parse(`/${'a'.repeat(107)}`), undefined);
  t.equal(endpoint.parse(`/${'é'.repeat(54)}`), undefined);
});

t.test('an address is a host and a port, IPv6 in brackets', async (t) => {
  t.same(address.parse('127.0.0.1:9090'), { host: '127.0.0.1', port: 9090 });
  t.same(address.parse('[::1]:9090'), { host: '::1', port: 9090 });
  t.same(address.parse(':65535'), { host: '', port: 65_535 });
  t.same(address.parse('node-1.example:1'), { host: 'node-1.example', port: 1 });
  for (const text of [
    '',
    '9090',
    ':',
    ':0',
    ':65536',
    '::1:9090',
    '[::1]',
    '[x]:1',
    '1.2.3:80',
    '1.2.3.400:80',
    'a b:1',
    'a:1x',
  ]) {
    t.equal(address.parse(text), undefined, JSON.stringify(text));
  }
});

t.test('a mode needs its leading 0, so that decimal numbers are never taken for octal', async (t) => {
  t.equal(fileMode.parse('0660'), 0o660);
  t.equal(fileMode.parse('0000'), 0);
  for (const text of ['660', '432', '0888', '01777', '0o660', '']) t.equal(fileMode.parse(text), undefined, text);
});

t.test('counts, flags and lists take their own notation only', async (t) => {
  t.equal(count(1, 10).parse('10'), 10);
  for (const text of ['0', '11', '1.0', '1e0', '-1', '0x1', '', ' 1'])
    t.equal(count(1, 10).parse(text), undefined, text);
  t.equal(flag.parse('false'), false);
  for (const text of ['yes', 'TRUE', '1', '']) t.equal(flag.parse(text), undefined, text);
  t.same(listOf(annotationName).parse('kubernetes.io/config.seen, b'), ['kubernetes.io/config.seen', 'b']);
  t.same(listOf(annotationName).parse(''), []);
  for (const text of ['a,', 'a b', '/a', 'a/', 'a/b/c', '='])
    t.equal(listOf(annotationName).parse(text), undefined, text);
});

t.test('percent may be written with its sign, and be off where that is allowed', async (t) => {
  const kind = orOff(percent(99));
  t.equal(kind.parse('50'), 50);
  t.equal(kind.parse('50%'), 50);
  t.equal(kind.parse('off'), 'off');
  for (const text of ['0', '100', '50%%', '5.5', '-1', '%', 'on', '']) t.equal(kind.parse(text), undefined, text);
});

t.test('a rate need not be whole, but is above 0', async (t) => {
  const kind = rate(100);
  t.equal(kind.parse('5'), 5);
  t.equal(kind.parse('0.5'), 0.5);
  t.equal(kind.parse('100'), 100);
  for (const text of ['0', '0.0', '100.1', '.5', '5.', '1e3', '-1', '', '5/s'])
    t.equal(kind.parse(text), undefined, text);
});

t.test('limits of runtime handlers are a name and a number', async (t) => {
  t.same(handlerLimit.parse('kata=4'), { handler: 'kata', limit: 4 });
  for (const text of ['kata', 'kata=', '=4', 'kata=0', 'kata=4=5', 'Kata=4', 'ka ta=4', 'kata=x']) {
    t.equal(handlerLimit.parse(text), undefined, text);
  }
});

t.test('namespaces are DNS labels, directories absolute', async (t) => {
  t.equal(namespace.parse('kube-system'), 'kube-system');
  for (const text of ['', 'Kube', 'a.b', '-a', 'a-', 'a'.repeat(64)]) t.equal(namespace.parse(text), undefined, text);
  t.equal(directory.parse('/sys/fs/cgroup/system.slice/'), '/sys/fs/cgroup/system.slice');
  for (const text of ['', 'cgroup', './x', '/a\0b']) t.equal(directory.parse(text), undefined, JSON.stringify(text));
});

t.test('a collector is named by its address, with the path of traces or without', async (t) => {
  const good: [string, string][] = [
    ['http://127.0.0.1:4318', 'http://127.0.0.1:4318/v1/traces'],
    ['http://collector:4318/', 'http://collector:4318/v1/traces'],
    ['http://127.0.0.1:4318/v1/traces', 'http://127.0.0.1:4318/v1/traces'],
    ['https://otlp.example.com/tenant/', 'https://otlp.example.com/tenant/v1/traces'],
    ['https://otlp.example.com/tenant/v1/traces/', 'https://otlp.example.com/tenant/v1/traces'],
    ['HTTP://[::1]:4318', 'http://[::1]:4318/v1/traces'],
  ];
  for (const [text, url] of good) t.equal(collector.parse(text), url, text);
  for (const text of [
    '',
    '127.0.0.1:4318',
    'collector:4318',
    'grpc://127.0.0.1:4317',
    'unix:///run/x.sock',
    'http:127.0.0.1',
    'http://',
    'http://user:secret@collector:4318',
    'http://user@collector:4318',
    'http://collector:4318?token=secret',
    'http://collector:4318#here',
    'http://collector:99999',
  ]) {
    t.equal(collector.parse(text), undefined, text);
  }
});

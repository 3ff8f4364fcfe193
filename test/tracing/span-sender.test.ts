/** What a collector can do to Holdfast: nothing but cost a bounded queue and a line a minute. */
import { Agent } from 'node:http';
import { AlwaysOnSampler, BasicTracerProvider } from '@opentelemetry/sdk-trace-base';
import { pino } from 'pino';
import t, { type Test } from 'tap';
import type { Clock } from '../../src/clock.js';
import { systemClock } from '../../src/clock.js';
import { SpanSender } from '../../src/tracing/span-sender.js';
import { accept, Collector } from './collector.js';

const patient = { batchMs: 5, tryMs: 5_000, deadlineMs: 6_000 };
/** A batch is not tried again: the exporter waits for 0.8 s at least before it does. */
const impatient = { batchMs: 5, tryMs: 200, deadlineMs: 400 };

function setUp(t: Test, url: string, times = impatient) {
  const lines: Record<string, unknown>[] = [];
  const log = pino({}, { write: (line: string) => lines.push(JSON.parse(line)) });
  let offMs = 0;
  const clock: Clock = {
    now: () => systemClock.now() + offMs,
    after: (...args) => systemClock.after(...args),
  };
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const sender = new SpanSender(url, { log, clock, agent, times });
  const provider = new BasicTracerProvider({ sampler: new AlwaysOnSampler(), spanProcessors: [sender] });
  const tracer = provider.getTracer('test');
  t.teardown(() => sender.close(0));
  return {
    lines,
    sender,
    sockets: () => Object.values(agent.sockets).flat().length,
    spans(count: number, name = 'span') {
      for (let n = 0; n < count; n++) tracer.startSpan(name).end();
    },
    later(ms: number) {
      offMs += ms;
    },
    logged: (count: number) => eventually(() => lines.length >= count),
  };
}

/** What may take as long as it takes; the test's own limit ends it. */
async function eventually(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 5));
}

/** A port on which nobody listens. */
async function nobody(t: Test): Promise<string> {
  const collector = await Collector.start(t);
  const { url } = collector;
  collector.close();
  return url;
}

t.test('spans come in batches over one connection', async (t) => {
  const collector = await Collector.start(t);
  const { spans, sender, lines } = setUp(t, collector.url, patient);
  spans(1_500);
  await collector.until(() => collector.spans.length === 1_500);
  t.ok(collector.posts <= 4, `in ${collector.posts} posts`);
  t.equal(collector.connections, 1);
  await sender.close(1_000);
  t.strictSame(lines, []);
  await collector.until(() => collector.connections === 0);
});

t.test('headers that the environment names go with the spans', async (t) => {
  t.teardown(() => delete process.env.OTEL_EXPORTER_OTLP_HEADERS);
  process.env.OTEL_EXPORTER_OTLP_HEADERS = 'authorization=Bearer%20secret';
  const collector = await Collector.start(t);
  const seen: unknown[] = [];
  collector.answer = (response, request) => {
    seen.push(request.headers.authorization);
    accept(response, request);
  };
  setUp(t, collector.url, patient).spans(1);
  await collector.until(() => seen.length === 1);
  t.strictSame(seen, ['Bearer secret']);
});

t.test('a collector that is not there costs the spans, and one line a minute that says how many', async (t) => {
  const { spans, lines, later, logged } = setUp(t, await nobody(t));
  spans(3);
  await logged(1);
  t.match(lines, [{ level: 40, msg: 'spans could not be sent', spansLost: 3, error: /ECONNREFUSED/ }]);
  for (let n = 0; n < 5; n++) {
    spans(2);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  t.equal(lines.length, 1);
  later(60_000);
  spans(1);
  await logged(2);
  t.match(lines[1], { spansLost: 11 });
});

t.test('spans that a collector is too slow for are lost beyond 2,048, and counted', async (t) => {
  const collector = await Collector.start(t);
  let goOn = () => {};
  collector.answer = (response) => {
    goOn = () => accept(response, response.req);
  };
  const { spans, lines, later } = setUp(t, collector.url, patient);
  spans(512);
  await collector.until(() => collector.posts === 1);
  spans(2_048 + 100);
  t.match(lines, [{ spansLost: 1, error: /slower/ }]);
  later(60_000);
  spans(1);
  t.match(lines[1], { spansLost: 100 });
  collector.answer = accept;
  goOn();
  await collector.until(() => collector.spans.length === 512 + 2_048);
  spans(1, 'after');
  await collector.named('after');
});

t.test('one that never answers is left at the end of its time, and asked again with the next spans', async (t) => {
  const collector = await Collector.start(t);
  collector.answer = () => {};
  const { spans, lines, logged } = setUp(t, collector.url);
  spans(1);
  await logged(1);
  t.match(lines, [{ spansLost: 1 }]);
  await collector.until(() => collector.connections === 0);
  collector.answer = accept;
  spans(1, 'after');
  await collector.named('after');
});

for (const status of [200, 400, 503]) {
  t.test(`one whose response (${status}) trickles for ever is left at the deadline`, async (t) => {
    const collector = await Collector.start(t);
    let trickle: NodeJS.Timeout | undefined;
    collector.answer = (response) => {
      response.writeHead(status, { 'retry-after': '0' });
      trickle = setInterval(() => response.write(' '), 20);
    };
    t.teardown(() => clearInterval(trickle));
    const { spans, sockets } = setUp(t, collector.url);
    spans(1);
    await collector.until(() => collector.posts === 1);
    await collector.until(() => collector.connections === 0);
    clearInterval(trickle);
    await eventually(() => sockets() === 0);
    collector.answer = accept;
    spans(1, 'after');
    await collector.named('after');
    t.equal(collector.posts, 2, 'the first batch was not tried again');
  });
}

t.test('one that answers with more than 4 MB is cut off', async (t) => {
  const collector = await Collector.start(t);
  collector.answer = (response) => {
    response.writeHead(500);
    const more = () => {
      while (!response.destroyed && response.write(Buffer.alloc(65_536, 'x')));
    };
    response.on('drain', more);
    more();
  };
  const { spans, lines, logged } = setUp(t, collector.url, patient);
  spans(1);
  await logged(1);
  t.match(lines, [{ spansLost: 1, error: /exceeded size limit/ }]);
  await collector.until(() => collector.connections === 0);
});

t.test('words of a collector are cut short', async (t) => {
  const collector = await Collector.start(t);
  collector.answer = (response) => void response.writeHead(400, 'no '.repeat(1_000)).end();
  const { spans, lines, logged } = setUp(t, collector.url, patient);
  spans(1);
  await logged(1);
  t.equal(String(lines[0]?.error).length, 200);
});

t.test('at the end what waits is sent', async (t) => {
  const collector = await Collector.start(t);
  const { spans, sender } = setUp(t, collector.url, { ...patient, batchMs: 60_000 });
  spans(1_300);
  await sender.close(10_000);
  t.equal(collector.spans.length, 1_300);
  await collector.until(() => collector.connections === 0);
});

t.test('at the end a collector that does not answer is waited for no longer than is said', async (t) => {
  const collector = await Collector.start(t);
  collector.answer = () => {};
  const { spans, sender, sockets } = setUp(t, collector.url, {
    ...impatient,
    batchMs: 60_000,
    tryMs: 60_000,
    deadlineMs: 120_000,
  });
  spans(1_300);
  const beganMs = Date.now();
  await sender.close(50);
  t.ok(Date.now() - beganMs < 30_000, 'well before it would have been given up');
  await eventually(() => sockets() === 0);
});

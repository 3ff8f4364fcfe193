import t from 'tap';
import { FailureBackoff } from '../../src/cache/failure-backoff.js';
import { type Fingerprint, fingerprintContainer, fingerprintPodSandbox } from '../../src/cache/fingerprint.js';
import { messageType } from '../../src/cri/schema.js';
import { ManualClock } from '../support/manual-clock.js';

const options = { volatileAnnotations: new Set<string>() };

function encode(type: string, fields: object): Buffer {
  const message = messageType(type);
  return Buffer.from(message.encode(message.fromObject(fields)).finish());
}

function present<Value>(value: Value | undefined): Value {
  if (value === undefined) throw new Error('no fingerprint');
  return value;
}

interface Wanted {
  readonly pod?: string;
  readonly attempt?: number;
  readonly image?: string;
}

function podSandbox({ pod = 'web', attempt = 0, image = 'a' }: Wanted = {}): Fingerprint {
  const config = { metadata: { name: pod, uid: 'u', namespace: 'shop', attempt }, hostname: image };
  return present(fingerprintPodSandbox(encode('RunPodSandboxRequest', { config }), options));
}

function container({ pod = 'web', attempt = 0, image = 'a' }: Wanted = {}): Fingerprint {
  const sandbox_config = { metadata: { name: pod, uid: 'u', namespace: 'shop' } };
  const config = { metadata: { name: 'main', attempt }, image: { image }, log_path: `main/${attempt}.log` };
  const bytes = encode('CreateContainerRequest', { pod_sandbox_id: 'p1', config, sandbox_config });
  return present(fingerprintContainer(bytes, options));
}

function newBackoff({ maxEntries = 100 } = {}) {
  const clock = new ManualClock();
  const backoff = new FailureBackoff(clock, maxEntries);
  const fail = (fingerprint: Fingerprint, times: number) => {
    for (let time = 0; time < times; time++) backoff.failed(fingerprint, new Error('no network'));
  };
  return { clock, backoff, fail };
}

const minuteMs = 60_000;

for (const [kind, request] of [
  ['a pod sandbox', podSandbox],
  ['a container', container],
] as const) {
  t.test(`${kind} that failed once or twice is not held`, async (t) => {
    const { backoff, fail } = newBackoff();
    t.strictSame(backoff.of(request()), { failures: 0, pauseMs: 0 });
    fail(request(), 1);
    t.strictSame(backoff.of(request()), { failures: 1, pauseMs: 0 });
    fail(request(), 1);
    t.strictSame(backoff.of(request()), { failures: 2, pauseMs: 0 });
    fail(request(), 1);
    t.match(backoff.of(request()), { failures: 3 });
    t.ok(backoff.of(request()).pauseMs > 0);
  });

  t.test(`${kind}: failures of the next attempt count on, since it is the same try again`, async (t) => {
    const { backoff, fail } = newBackoff();
    fail(request({ attempt: 0 }), 2);
    fail(request({ attempt: 1 }), 1);
    t.match(backoff.of(request({ attempt: 2 })), { failures: 3 });
    t.ok(backoff.of(request({ attempt: 2 })).pauseMs > 0);
  });

  t.test(`${kind}: failures of a request that was changed do not count, and break the row`, async (t) => {
    const { backoff, fail } = newBackoff();
    fail(request(), 5);
    t.strictSame(backoff.of(request({ image: 'b' })), { failures: 0, pauseMs: 0 });
    fail(request({ image: 'b' }), 1);
    t.strictSame(backoff.of(request({ image: 'b' })), { failures: 1, pauseMs: 0 });
    t.strictSame(backoff.of(request()), { failures: 0, pauseMs: 0 }, 'it is not the one that failed last');
    fail(request(), 1);
    t.strictSame(backoff.of(request()), { failures: 1, pauseMs: 0 });
  });

  t.test(`${kind}: failures of other pods do not count`, async (t) => {
    const { backoff, fail } = newBackoff();
    fail(request({ pod: 'other' }), 5);
    fail(request(), 1);
    t.strictSame(backoff.of(request()), { failures: 1, pauseMs: 0 });
    t.match(backoff.of(request({ pod: 'other' })), { failures: 5 });
  });

  t.test(`${kind}: a success ends the row, that of another pod does not`, async (t) => {
    const { backoff, fail } = newBackoff();
    fail(request(), 3);
    backoff.succeeded(request({ pod: 'other' }));
    t.match(backoff.of(request()), { failures: 3 });
    backoff.succeeded(request({ attempt: 1, image: 'b' }));
    t.strictSame(backoff.of(request()), { failures: 0, pauseMs: 0 });
    fail(request(), 1);
    t.match(backoff.of(request()), { failures: 1 });
  });

  t.test(`${kind}: what did not fail for ten minutes starts anew`, async (t) => {
    const { clock, backoff, fail } = newBackoff();
    fail(request(), 3);
    clock.skip(9 * minuteMs);
    fail(request(), 1);
    clock.skip(10 * minuteMs);
    t.match(backoff.of(request()), { failures: 4 }, 'ten minutes since the last, nineteen since the first');
    clock.skip(1);
    t.strictSame(backoff.of(request()), { failures: 0, pauseMs: 0 });
  });

  t.test(`${kind} and the other kind of one pod are counted apart`, async (t) => {
    const { backoff, fail } = newBackoff();
    fail(podSandbox(), 2);
    fail(container(), 4);
    t.match(backoff.of(podSandbox()), { failures: 2 });
    t.match(backoff.of(container()), { failures: 4 });
  });
}

t.test('the pauses between tries of a pod sandbox double from 2 s to 30 s', async (t) => {
  const { backoff, fail } = newBackoff();
  const pauses = Array.from({ length: 8 }, () => {
    fail(podSandbox(), 1);
    return backoff.of(podSandbox()).pauseMs;
  });
  t.strictSame(pauses, [0, 0, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
  fail(podSandbox(), 2_000);
  t.equal(backoff.of(podSandbox()).pauseMs, 30_000);
});

t.test('the time since the last failure is part of the pause', async (t) => {
  const { clock, backoff, fail } = newBackoff();
  fail(podSandbox(), 5);
  clock.skip(7_900);
  t.equal(backoff.of(podSandbox()).pauseMs, 100);
  clock.skip(200);
  t.equal(backoff.of(podSandbox()).pauseMs, 0);
  t.equal(backoff.of(podSandbox()).failures, 5, 'which are not forgotten with that');
});

t.test('the caller of a container is held for a second at most, and not once the pause is over', async (t) => {
  const { clock, backoff, fail } = newBackoff();
  fail(container(), 20);
  t.strictSame(backoff.of(container()), { failures: 20, pauseMs: 1_000 });
  clock.skip(28_500);
  t.equal(backoff.of(container()).pauseMs, 1_000);
  clock.skip(700);
  t.equal(backoff.of(container()).pauseMs, 800);
  clock.skip(800);
  t.equal(backoff.of(container()).pauseMs, 0);
});

t.test('a request too large for a digest counts as the one that failed before', async (t) => {
  const { backoff, fail } = newBackoff();
  const large = { ...podSandbox(), digest: '', tooLarge: true };
  fail(large, 2);
  fail(large, 1);
  t.match(backoff.of(large), { failures: 3, pauseMs: 2_000 });
});

t.test('no more requests are remembered than entries are allowed, the latest of them', async (t) => {
  const { backoff, fail } = newBackoff({ maxEntries: 2 });
  for (const pod of ['a', 'b', 'c']) fail(container({ pod }), 1);
  t.equal(backoff.of(container({ pod: 'a' })).failures, 0);
  t.equal(backoff.of(container({ pod: 'b' })).failures, 1);
  t.equal(backoff.of(container({ pod: 'c' })).failures, 1);
});

t.test('what has failed is told with when it is tried again and what was said last, until it succeeds', async (t) => {
  const { clock, backoff, fail } = newBackoff();
  const startMs = clock.now();
  t.same(backoff.all, []);
  t.equal(backoff.viewOf(podSandbox()), undefined);
  fail(podSandbox(), 2);
  await clock.advance(5_000);
  fail(container(), 4);
  backoff.failed(container(), 'odd');
  const [first, second] = [
    { identity: podSandbox().identity, count: 2, lastMs: startMs, nextMs: startMs, error: 'no network' },
    { identity: container().identity, count: 5, lastMs: startMs + 5_000, nextMs: startMs + 13_000, error: 'odd' },
  ];
  t.same(backoff.all, [second, first]);
  t.same(backoff.viewOf(podSandbox({ image: 'other' })), first, 'whatever it is asked for with');
  backoff.succeeded(podSandbox());
  t.same(backoff.all, [second]);
  await clock.advance(10 * minuteMs + 1);
  t.same(backoff.all, [], 'it is too long ago');
});

t.test('what is told of a failure is short', (t) => {
  const { backoff } = newBackoff();
  backoff.failed(podSandbox(), new Error('x'.repeat(10_000)));
  t.equal(backoff.all[0]?.error, 'x'.repeat(300));
  t.end();
});

t.test('failures that are forgotten are told, and the next try is at once', (t) => {
  const { backoff, fail } = newBackoff();
  fail(podSandbox(), 4);
  fail(podSandbox({ pod: 'db' }), 4);
  t.same(
    backoff.forget(({ name }) => name === 'web'),
    [podSandbox().identity],
  );
  t.strictSame(backoff.of(podSandbox()), { failures: 0, pauseMs: 0 });
  t.equal(backoff.of(podSandbox({ pod: 'db' })).failures, 4);
  t.same(
    backoff.forget(({ name }) => name === 'web'),
    [],
  );
  t.end();
});

/** How it is found out whose container is started, and what becomes of the start meanwhile. */
import t from 'tap';
import { DroppedError } from '../../src/cache/detached-call.js';
import { settle } from '../support/manual-clock.js';
import { attempt, identity, keptIn, outcomeOf, setUp, unending } from './start-rig.js';

const nothing = { inFlight: 0, past: 0 };

t.test('12: whose container it is is asked of the runtime where Holdfast does not know', async (t) => {
  const all = setUp();
  all.runtime.identities.set('c0', identity(0, 'c', 'sandbox-of-c0'));
  const leave = new AbortController();
  all.askUnknown('c0', leave.signal).catch(() => {});
  await settle();
  leave.abort();
  t.ok(all.guard.inTheWay(attempt(1)));
  const next = outcomeOf(all.guard.pass(attempt(1), unending()));
  all.store.ended('podSandbox', 'sandbox-of-c0');
  await settle();
  t.equal(next.now, undefined, 'and where it is');
  all.runtime.states.set('c0', 'running');
});

t.test('12: a start of a container that is not known goes upstream only once it is', async (t) => {
  const all = setUp();
  all.runtime.identifiesByHand = true;
  await t.rejects(
    (async () => {
      const leave = new AbortController();
      const asked = all.askUnknown('c0', leave.signal);
      asked.catch(() => {});
      await settle();
      leave.abort();
      await asked;
    })(),
    { name: 'WaiterLeftError', progress: { at: 'queued', sinceMs: 1_000, behind: 0 } },
  );
  t.equal(all.runtime.calls.length, 0);
  all.runtime.identifying[0]?.end(identity(0));
  await settle();
  t.equal(all.runtime.calls.length, 1, 'whoever left meanwhile');
  t.equal(all.guard.inTheWay(attempt(1))?.containerId, 'c0', 'and nobody waits for it');
});

t.test('12: a start that a further attempt has passed while its container was not known is not made', async (t) => {
  const all = setUp({ limit: 2 });
  all.runtime.identifiesByHand = true;
  const first = outcomeOf(all.askUnknown('c0'));
  const other = outcomeOf(all.askUnknown('d0'));
  await settle();
  await t.resolves(all.guard.pass(attempt(1), unending()), 'the creation does not wait');
  all.runtime.identifying[0]?.end(identity(0));
  all.runtime.identifying[1]?.end(identity(0, 'd'));
  await settle();
  t.type(first.now, DroppedError);
  t.equal(other.now, 'waits');
  t.equal(all.runtime.calls.length, 1, 'that of the other container');
  t.equal(keptIn(all.store).inFlight, 1);
});

t.test('12: a container that nobody can name is started all the same', async (t) => {
  const all = setUp();
  const asked = all.askUnknown('by hand');
  await settle();
  all.runtime.calls[0]?.end();
  (await asked).settle(false);
  all.runtime.states.set('by hand', 'running');
  t.equal((await all.askUnknown('by hand')).role, 'replayed');
  const failed = all.askUnknown('another');
  await settle();
  all.runtime.calls[1]?.fail(new Error('UNAVAILABLE'));
  await t.rejects(failed, { message: 'UNAVAILABLE' });
  t.strictSame(keptIn(all.store), { inFlight: 0, past: 1 }, 'nothing can be held against anybody');
});

t.test('12: a start whose container cannot be told fails with that, in bounded time, and does no harm', async (t) => {
  const all = setUp();
  all.runtime.identifiesByHand = true;
  const away = new Error('away');
  const first = t.rejects(all.askUnknown('c0'), away);
  all.runtime.identifying[0]?.end(away);
  await first;
  const second = outcomeOf(all.askUnknown('c0'));
  await all.clock.advance(119_999);
  t.equal(second.now, 'waits');
  await all.clock.advance(1);
  t.match(String(second.now), /DroppedError: the runtime did not say within 120000 ms whose container it is/);
  t.equal(all.runtime.identifying[1]?.signal.aborted, true);
  t.equal(all.runtime.calls.length, 0);
  t.strictSame(keptIn(all.store), nothing);
  t.strictSame(all.guard.sizes, { containers: 0, gone: 0 });
  t.equal(all.clock.pending, 0);
});

t.test('12: identification ends with the start', async (t) => {
  const all = setUp();
  all.runtime.identifiesByHand = true;
  const asked = outcomeOf(all.askUnknown('c0'));
  await settle();
  all.store.ended('container', 'c0');
  await settle();
  t.type(asked.now, DroppedError);
  t.equal(all.runtime.identifying[0]?.signal.aborted, true);
  await t.resolves(all.guard.pass(attempt(1), unending()));
  t.strictSame(all.guard.sizes, { containers: 0, gone: 0 });
  t.equal(all.clock.pending, 0);
});

t.test('12: a start whose container had to be told is as urgent as any other', async (t) => {
  const all = setUp();
  all.ask('busy', unending(), identity(0, 'busy')).catch(() => {});
  await settle();
  all.ask('plain', unending(), identity(0, 'plain')).catch(() => {});
  const urgency = { importance: 'critical' } as const;
  all.store
    .request({ containerId: 'c0', bytes: Buffer.from('critical'), origin: 'test', urgency }, unending())
    .catch(() => {});
  await settle();
  all.runtime.calls[0]?.end();
  await settle();
  t.equal(all.runtime.calls[1]?.text, 'critical');
});

t.test('12: a start that somebody waits for once its container is known holds nothing back', async (t) => {
  const all = setUp();
  all.runtime.identifiesByHand = true;
  const leave = new AbortController();
  all.askUnknown('c0', leave.signal).catch(() => {});
  all.askUnknown('c0').catch(() => {});
  await settle();
  leave.abort();
  all.runtime.identifying[0]?.end(identity(0));
  await settle();
  t.equal(all.runtime.calls.length, 1);
  t.equal(all.guard.inTheWay(attempt(1)), undefined);
});

t.test('12: what is learned of a container after the end of its start holds nothing back', async (t) => {
  const all = setUp();
  all.runtime.identifiesByHand = true;
  const asked = outcomeOf(all.askUnknown('c0'));
  await settle();
  all.runtime.identifying[0]?.end(identity(0));
  all.store.ended('container', 'c0');
  await settle();
  t.type(asked.now, DroppedError);
  t.equal(all.runtime.calls.length, 0);
  t.strictSame(all.guard.sizes, { containers: 0, gone: 0 });
  t.strictSame(keptIn(all.store), nothing);
});

t.test('12: a start of a container that nobody can name is delivered as any other', async (t) => {
  const all = setUp();
  const asked = all.askUnknown('by hand');
  await settle();
  all.runtime.calls[0]?.end();
  (await asked).settle(true);
  t.strictSame(keptIn(all.store), nothing);
  t.equal(all.steps.at(-1), 'delivered');
});

t.test('12: why a start was dropped is said', async (t) => {
  const all = setUp();
  all.runtime.identifiesByHand = true;
  const stopped = outcomeOf(all.askUnknown('c0'));
  const passed = outcomeOf(all.askUnknown('d0'));
  await settle();
  all.store.ended('container', 'c0');
  await all.guard.pass(attempt(1, 'd'), unending());
  all.runtime.identifying[1]?.end(identity(0, 'd'));
  await settle();
  t.equal(
    String(stopped.now),
    'DroppedError: the container or its pod sandbox was stopped or removed before it was started',
  );
  t.equal(String(passed.now), 'DroppedError: a further attempt of the container was asked for meanwhile');
});

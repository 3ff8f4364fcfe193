import t from 'tap';
import { CallTimeoutError, WaiterLeftError } from '../../src/cache/detached-call.js';
import type { Fingerprint } from '../../src/cache/fingerprint.js';
import {
  StartedMeanwhileError,
  type StartIdentity,
  type StartRuntime,
  StartStore,
} from '../../src/cache/start-store.js';
import { ManualClock, settle } from '../support/manual-clock.js';
import { plainAdmission } from '../support/plain-admission.js';

class TestRuntime implements StartRuntime<string, string> {
  readonly calls: { end(): void; fail(error: Error): void; signal: AbortSignal }[] = [];
  identities = new Map<string, StartIdentity>();
  states = new Map<string, 'created' | 'running' | 'exited' | 'gone'>();

  start(_: Buffer, __: string, signal: AbortSignal): Promise<string> {
    return new Promise((resolve, reject) => {
      this.calls.push({ end: () => resolve('started'), fail: reject, signal });
    });
  }

  async identify(containerId: string): Promise<StartIdentity | undefined> {
    return this.identities.get(containerId);
  }

  async stateOf(containerId: string): Promise<'created' | 'running' | 'exited' | 'gone'> {
    return this.states.get(containerId) ?? 'gone';
  }
}

function setUp() {
  const runtime = new TestRuntime();
  const clock = new ManualClock();
  const steps: string[] = [];
  const options = { creationTimeoutMs: 60_000, holdTtlMs: 10_000, replayTtlMs: 30_000, maxEntries: 100 };
  const store = new StartStore<string, string>(
    runtime,
    plainAdmission(1, clock),
    clock,
    (step) => steps.push(step),
    options,
  );
  const ask = (id: string, signal = never, known: StartIdentity | undefined = { family: 'c', attempt: 0 }) =>
    store.request({ containerId: id, bytes: Buffer.alloc(0), origin: 'test', known }, signal);
  return { runtime, clock, store, steps, ask };
}

const never = new AbortController().signal;

/** As far as a start looks at it: the next attempt of the container of family `c`. */
function attempt(number: number, family = 'c'): Fingerprint {
  return { kind: 'container', family, identity: { attempt: number } } as Fingerprint;
}

/** Begins a start and leaves. */
async function abandoned({ ask }: ReturnType<typeof setUp>, id = 'c0', known?: StartIdentity) {
  const leave = new AbortController();
  const asked = known === undefined ? ask(id, leave.signal) : ask(id, leave.signal, known);
  asked.catch(() => {});
  await settle();
  leave.abort();
  await t.rejects(asked, WaiterLeftError);
}

t.test('a repeated start joins the running one, and both are answered', async (t) => {
  const { runtime, ask } = setUp();
  const first = ask('c0');
  const second = ask('c0');
  await settle();
  runtime.calls[0]?.end();
  t.same([(await first).role, (await second).role], ['started', 'joined']);
  t.equal(runtime.calls.length, 1);
});

t.test('a start goes on when its caller has left, and is answered again to a repeat', async (t) => {
  const all = setUp();
  await abandoned(all);
  t.equal(all.runtime.calls[0]?.signal.aborted, false);
  all.runtime.calls[0]?.end();
  all.runtime.states.set('c0', 'running');
  await settle();
  const repeat = await all.ask('c0');
  t.same([repeat.role, repeat.answer], ['replayed', 'started']);
  repeat.settle(true);
  all.ask('c0').catch(() => {});
  await settle();
  t.equal(all.runtime.calls.length, 2, 'once delivered, a further start is the runtime’s to judge');
});

t.test('a finished start of a container that is CREATED again is carried out anew', async (t) => {
  const all = setUp();
  await abandoned(all);
  all.runtime.calls[0]?.end();
  all.runtime.states.set('c0', 'created');
  await settle();
  const repeat = all.ask('c0');
  await settle();
  all.runtime.calls[1]?.end();
  t.equal((await repeat).role, 'started');
});

t.test('the next attempt waits for an abandoned start and is refused once that one runs', async (t) => {
  const all = setUp();
  await abandoned(all);
  const next = all.store.beforeCreate(attempt(1));
  all.runtime.states.set('c0', 'running');
  all.runtime.calls[0]?.end();
  await t.rejects(next, StartedMeanwhileError);
  t.ok(all.steps.includes('guarded'));
});

t.test('the next attempt goes on if the abandoned start failed', async (t) => {
  const all = setUp();
  await abandoned(all);
  const next = all.store.beforeCreate(attempt(1));
  all.runtime.calls[0]?.fail(new Error('no such file'));
  await t.resolves(next);
});

t.test('the next attempt goes on if what was started has exited since', async (t) => {
  const all = setUp();
  await abandoned(all);
  all.runtime.calls[0]?.end();
  all.runtime.states.set('c0', 'exited');
  await settle();
  await t.resolves(all.store.beforeCreate(attempt(1)));
});

t.test('the next attempt is refused also just after the abandoned start has ended', async (t) => {
  const all = setUp();
  await abandoned(all);
  all.runtime.calls[0]?.end();
  all.runtime.states.set('c0', 'running');
  await settle();
  await t.rejects(all.store.beforeCreate(attempt(1)), StartedMeanwhileError);
});

t.test('other containers, the same attempt and starts somebody waits for hold nothing back', async (t) => {
  const all = setUp();
  await abandoned(all);
  await t.resolves(all.store.beforeCreate(attempt(1, 'another')));
  await t.resolves(all.store.beforeCreate(attempt(0)));
  const waiting = setUp();
  waiting.ask('c0').catch(() => {});
  await settle();
  await t.resolves(waiting.store.beforeCreate(attempt(1)));
});

t.test('whose container it is is asked of the runtime where Holdfast does not know', async (t) => {
  const { runtime, store } = setUp();
  runtime.identities.set('c0', { family: 'c', attempt: 0 });
  const leave = new AbortController();
  store.request({ containerId: 'c0', bytes: Buffer.alloc(0), origin: 'test' }, leave.signal).catch(() => {});
  await settle();
  leave.abort();
  const next = store.beforeCreate(attempt(1));
  runtime.states.set('c0', 'running');
  runtime.calls[0]?.end();
  await t.rejects(next, StartedMeanwhileError);
});

t.test('a start that never ends is ended at the creation timeout', async (t) => {
  const { clock, ask } = setUp();
  const rejected = t.rejects(ask('c0'), CallTimeoutError);
  await clock.advance(60_000);
  await rejected;
});

t.test('a queued start nobody asked for within the hold time is dropped', async (t) => {
  const all = setUp();
  all.ask('c0').catch(() => {});
  await settle();
  await abandoned(all, 'c1');
  await all.clock.advance(10_001);
  all.runtime.calls[0]?.end();
  await settle();
  t.equal(all.runtime.calls.length, 1);
  t.ok(all.steps.includes('dropped'));
});

t.test('a finished start of a container that is stopped or removed is forgotten', async (t) => {
  const all = setUp();
  await abandoned(all);
  all.runtime.calls[0]?.end();
  all.runtime.states.set('c0', 'running');
  await settle();
  all.store.ended('c0');
  await t.resolves(all.store.beforeCreate(attempt(1)));
});

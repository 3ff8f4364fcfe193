import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import t from 'tap';
import { CallTimeoutError, DroppedError, ShutDownError, WaiterLeftError } from '../../src/cache/detached-call.js';
import type { ContainerFingerprint } from '../../src/cache/fingerprint.js';
import { type ContainerNow, SecondCopyGuard, StartedMeanwhileError } from '../../src/cache/second-copy-guard.js';
import { type StartIdentity, type StartRuntime, StartStore } from '../../src/cache/start-store.js';
import { ManualClock, settle } from '../support/manual-clock.js';
import { plainAdmission } from '../support/plain-admission.js';

class Refusal extends Error {
  override readonly name = 'Refusal';
}

interface StartCall {
  readonly signal: AbortSignal;
  end(): void;
  fail(error: Error): void;
}

class TestRuntime implements StartRuntime<string, string> {
  readonly calls: StartCall[] = [];
  readonly identities = new Map<string, StartIdentity>();
  readonly states = new Map<string, ContainerNow['state'] | Error>();
  /** Identifications that wait, where they are ended by hand. */
  readonly identifying: { readonly signal: AbortSignal; end(found: StartIdentity | Error | undefined): void }[] = [];
  /** Looks that wait, where they are ended by hand. */
  readonly looking: (() => void)[] = [];
  identifiesByHand = false;
  looksByHand = false;
  looks = 0;

  start(_: Buffer, __: string, signal: AbortSignal): Promise<string> {
    return new Promise((resolve, reject) => {
      this.calls.push({ end: () => resolve('started'), fail: reject, signal });
    });
  }

  isRefusal(error: unknown): boolean {
    return error instanceof Refusal;
  }

  identify(containerId: string, _: string, signal: AbortSignal): Promise<StartIdentity | undefined> {
    if (!this.identifiesByHand) return Promise.resolve(this.identities.get(containerId));
    return new Promise((resolve, reject) => {
      const end = (found: StartIdentity | Error | undefined) =>
        found instanceof Error ? reject(found) : resolve(found);
      this.identifying.push({ signal, end });
    });
  }

  async stateOf(containerId: string): Promise<ContainerNow> {
    this.looks += 1;
    if (this.looksByHand) await new Promise<void>((resolve) => this.looking.push(resolve));
    const state = this.states.get(containerId) ?? 'gone';
    if (state instanceof Error) throw state;
    return { state };
  }
}

interface SetUpOptions {
  readonly limit?: number;
  readonly maxEntries?: number;
}

function setUp({ limit = 1, maxEntries = 100 }: SetUpOptions = {}) {
  const runtime = new TestRuntime();
  const clock = new ManualClock();
  const guard = new SecondCopyGuard(clock);
  const steps: string[] = [];
  const options = { creationTimeoutMs: 60_000, holdTtlMs: 10_000, replayTtlMs: 30_000, maxEntries };
  const observe = (step: string) => steps.push(step);
  const store = new StartStore<string, string>(runtime, guard, plainAdmission(limit, clock), clock, observe, options);
  const ask = (id: string, signal = unending(), known = identity(0)) =>
    store.request({ containerId: id, bytes: Buffer.alloc(0), origin: 'test', known }, signal);
  /** Without saying whose container it is. */
  const askUnknown = (id: string, signal = unending()) =>
    store.request({ containerId: id, bytes: Buffer.alloc(0), origin: 'test' }, signal);
  return { runtime, clock, guard, store, steps, ask, askUnknown };
}

type All = ReturnType<typeof setUp>;

/** The signal of a caller that waits for as long as it takes. */
function unending(): AbortSignal {
  return new AbortController().signal;
}

/** Sizes of a store that keeps nothing. */
const nothing = { inFlight: 0, past: 0, podSandboxes: 0 };

function identity(attempt: number, family = 'c', podSandboxId = 'sandbox'): StartIdentity {
  return { family, attempt, podSandboxId };
}

/** As far as a start looks at it: the next attempt of the container of family `c`. */
function attempt(number: number, family = 'c'): ContainerFingerprint {
  return { kind: 'container', family, identity: { attempt: number } } as ContainerFingerprint;
}

/** Begins a start and leaves. */
async function abandoned({ ask }: All, id = 'c0', known = identity(0)) {
  const leave = new AbortController();
  const asked = ask(id, leave.signal, known);
  asked.catch(() => {});
  await settle();
  leave.abort();
  await t.rejects(asked, WaiterLeftError);
}

/** A start that went through with nobody waiting. */
async function finished(all: All, id = 'c0', known = identity(0)) {
  const before = all.runtime.calls.length;
  await abandoned(all, id, known);
  all.runtime.states.set(id, 'running');
  all.runtime.calls[before]?.end();
  await settle();
}

/** What a promise came to, so far. */
function outcomeOf(promise: Promise<unknown>): { now: unknown } {
  const outcome: { now: unknown } = { now: 'waits' };
  promise.then(
    (value) => {
      outcome.now = value;
    },
    (error) => {
      outcome.now = error;
    },
  );
  return outcome;
}

t.test('12: whoever has left before it is heard starts nothing', async (t) => {
  const all = setUp();
  await t.rejects(all.ask('c0', AbortSignal.abort()), WaiterLeftError);
  t.strictSame(all.store.sizes, nothing);
  t.equal(all.runtime.calls.length, 0);
});

t.test('12: a repeated start joins the running one, and both are answered', async (t) => {
  const { runtime, ask } = setUp();
  const first = ask('c0');
  const second = ask('c0');
  await settle();
  runtime.calls[0]?.end();
  t.same([(await first).role, (await second).role], ['started', 'joined']);
  t.equal(runtime.calls.length, 1);
});

t.test('12: a start goes on when its caller has left, and is answered again to a repeat', async (t) => {
  const all = setUp();
  await abandoned(all);
  t.equal(all.runtime.calls[0]?.signal.aborted, false);
  all.runtime.calls[0]?.end();
  all.runtime.states.set('c0', 'running');
  await settle();
  const repeat = await all.ask('c0');
  t.same([repeat.role, repeat.answer], ['replayed', 'started']);
  repeat.settle(true);
  t.strictSame(all.store.sizes, nothing);
  all.ask('c0').catch(() => {});
  await settle();
  t.equal(all.runtime.calls.length, 2, 'once delivered, a further start is the runtime’s to judge');
});

t.test('12: a start of a container that has exited meanwhile is answered again', async (t) => {
  const all = setUp();
  await finished(all);
  all.runtime.states.set('c0', 'exited');
  t.equal((await all.ask('c0')).role, 'replayed');
  t.equal((await all.ask('c0')).role, 'replayed', 'until the answer is known to have arrived');
});

t.test('12: a finished start of a container that is CREATED again or gone is carried out anew', async (t) => {
  for (const state of ['created', 'gone'] as const) {
    const all = setUp();
    await finished(all);
    all.runtime.states.set('c0', state);
    const repeat = all.ask('c0');
    await settle();
    t.equal(all.guard.inTheWay(attempt(1)), undefined, 'somebody waits for it now');
    all.runtime.calls[1]?.end();
    t.equal((await repeat).role, 'started');
  }
});

t.test(
  '12: where a finished start cannot be looked at its repeat fails, and after three the runtime judges',
  async (t) => {
    const all = setUp();
    await finished(all);
    const away = new Error('away');
    all.runtime.states.set('c0', away);
    for (let n = 0; n < 3; n++) await t.rejects(all.ask('c0'), away);
    t.equal(all.guard.inTheWay(attempt(1))?.containerId, 'c0', 'it is not forgotten by that');
    const fourth = all.ask('c0');
    await settle();
    all.runtime.calls[1]?.fail(new Refusal('it runs already'));
    await t.rejects(fourth, Refusal);
    all.runtime.states.set('c0', 'running');
    await t.rejects(
      all.guard.pass(attempt(1), unending()),
      StartedMeanwhileError,
      'nor by a refusal that says nothing',
    );
  },
);

t.test('12: a look that succeeds ends the row of those that did not', async (t) => {
  const all = setUp();
  await finished(all);
  for (const state of [
    new Error('away'),
    new Error('away'),
    'running',
    new Error('away'),
    new Error('away'),
  ] as const) {
    all.runtime.states.set('c0', state);
    await all.ask('c0').catch(() => {});
  }
  all.runtime.states.set('c0', 'running');
  t.equal((await all.ask('c0')).role, 'replayed');
});

t.test('12: whoever leaves while a finished start is looked at is not kept, and counts as no failure', async (t) => {
  const all = setUp();
  await finished(all);
  all.runtime.looksByHand = true;
  all.clock.skip(7);
  for (let n = 0; n < 3; n++) {
    const leave = new AbortController();
    const asked = all.ask('c0', leave.signal);
    asked.catch(() => {});
    await settle();
    leave.abort();
    await t.rejects(asked, { name: 'WaiterLeftError', progress: { at: 'checked', sinceMs: 1_007 } });
  }
  all.runtime.looksByHand = false;
  t.equal((await all.ask('c0')).role, 'replayed');
});

t.test('12: what is learned late of a start is not held against a newer one of the same container', async (t) => {
  const all = setUp();
  const asked = all.ask('c0');
  await settle();
  all.runtime.calls[0]?.end();
  const answered = await asked;
  all.runtime.states.set('c0', 'created');
  all.runtime.looksByHand = true;
  const [first, second] = [all.ask('c0'), all.ask('c0')];
  await settle();
  all.runtime.looking[0]?.();
  await settle();
  all.runtime.calls[1]?.end();
  t.equal((await first).role, 'started');
  answered.settle(true);
  t.ok(all.guard.inTheWay(attempt(1)), 'the answer that arrived was the older one’s');
  all.runtime.looking[1]?.();
  await settle();
  t.ok(all.guard.inTheWay(attempt(1)), 'it was the older one that was not true any more');
  all.runtime.states.set('c0', 'running');
  all.runtime.looking[2]?.();
  t.equal((await second).role, 'replayed');
  t.equal(all.runtime.calls.length, 2);
});

t.test('12: whoever is just being answered still is where the first answer arrives meanwhile', async (t) => {
  const all = setUp();
  await finished(all);
  const first = await all.ask('c0');
  all.runtime.looksByHand = true;
  const second = all.ask('c0');
  await settle();
  first.settle(true);
  all.runtime.looking[0]?.();
  t.equal((await second).role, 'replayed');
  t.equal(all.runtime.calls.length, 1);
});

t.test('12: what was stopped while it is looked at is not answered again', async (t) => {
  const all = setUp();
  await finished(all);
  all.runtime.looksByHand = true;
  const repeat = outcomeOf(all.ask('c0'));
  await settle();
  all.store.ended('container', 'c0');
  all.runtime.looking[0]?.();
  await settle();
  t.equal(repeat.now, 'waits');
  t.equal(all.runtime.calls.length, 2, 'the runtime judges');
});

t.test('12: the next attempt waits for an abandoned start and is refused once that one went through', async (t) => {
  for (const state of ['running', 'exited'] as const) {
    const all = setUp();
    await abandoned(all);
    const next = all.guard.pass(attempt(1), unending());
    all.runtime.states.set('c0', state);
    all.runtime.calls[0]?.end();
    await t.rejects(next, StartedMeanwhileError);
    t.ok(all.steps.includes('guarded'));
    await t.resolves(all.guard.pass(attempt(1), unending()), 'once');
  }
});

t.test('12: the next attempt is made without a look if the container refused to start', async (t) => {
  const all = setUp();
  await abandoned(all);
  const next = all.guard.pass(attempt(1), unending());
  all.runtime.calls[0]?.fail(new Refusal('no such file'));
  await t.resolves(next);
  t.equal(all.runtime.looks, 0);
  t.strictSame(all.store.sizes, nothing);
});

t.test('12: after a start that failed in any other way the next attempt is judged by the container', async (t) => {
  for (const [state, outcome] of [
    ['running', StartedMeanwhileError],
    ['exited', StartedMeanwhileError],
    ['created', undefined],
    ['gone', undefined],
  ] as const) {
    const all = setUp();
    await abandoned(all);
    all.runtime.calls[0]?.fail(new Error('UNAVAILABLE'));
    await settle();
    all.runtime.states.set('c0', state);
    const next = all.guard.pass(attempt(1), unending());
    await (outcome === undefined ? t.resolves(next) : t.rejects(next, outcome));
    t.equal(all.runtime.looks, 1, state);
  }
});

t.test('12: a start that timed out is looked at, and what cannot be seen is let go after three looks', async (t) => {
  const all = setUp();
  const late = t.rejects(all.ask('c0'), CallTimeoutError);
  await all.clock.advance(60_000);
  await late;
  t.ok(all.steps.includes('timed out'));
  const away = new Error('away');
  all.runtime.states.set('c0', away);
  for (let n = 0; n < 3; n++) await t.rejects(all.guard.pass(attempt(1), unending()), away);
  t.ok(all.steps.includes('let go'));
  await t.resolves(all.guard.pass(attempt(1), unending()));
});

t.test('12: a start after one that failed unclearly joins nothing, and its refusal says nothing', async (t) => {
  const all = setUp();
  const first = all.ask('c0');
  await settle();
  all.runtime.calls[0]?.fail(new Error('UNAVAILABLE'));
  await t.rejects(first, { message: 'UNAVAILABLE' });
  t.ok(all.guard.inTheWay(attempt(1)));
  all.runtime.identifiesByHand = true;
  const second = all.askUnknown('c0');
  await settle();
  t.equal(all.runtime.identifying.length, 0, 'whose it is is known');
  t.equal(all.guard.inTheWay(attempt(1)), undefined, 'somebody waits for it');
  all.runtime.calls[1]?.fail(new Refusal('it runs already'));
  await t.rejects(second, Refusal);
  all.runtime.states.set('c0', 'running');
  await t.rejects(all.guard.pass(attempt(1), unending()), StartedMeanwhileError);
});

t.test(
  '12: a start that went through for a live waiter is held against creations until the answer has arrived',
  async (t) => {
    const all = setUp();
    const asked = all.ask('c0');
    await settle();
    t.equal(all.guard.inTheWay(attempt(1)), undefined, 'somebody waits');
    all.runtime.calls[0]?.end();
    const grant = await asked;
    t.equal(all.guard.inTheWay(attempt(1))?.containerId, 'c0');
    grant.settle(false);
    t.equal(all.guard.inTheWay(attempt(1))?.containerId, 'c0', 'it crossed the deadline');
    const again = await Promise.all([all.runtime.states.set('c0', 'running'), all.ask('c0')]);
    again[1].settle(true);
    t.equal(all.guard.inTheWay(attempt(1)), undefined);
    t.equal(all.steps.filter((step) => step === 'delivered').length, 1);
  },
);

t.test('12: other containers, the same attempt and starts somebody waits for hold nothing back', async (t) => {
  const all = setUp();
  await abandoned(all);
  await t.resolves(all.guard.pass(attempt(1, 'another'), unending()));
  await t.resolves(all.guard.pass(attempt(0), unending()));
  const waiting = setUp();
  waiting.ask('c0').catch(() => {});
  await settle();
  await t.resolves(waiting.guard.pass(attempt(1), unending()));
});

t.test('12: a start is in the way while it is queued, and from its last waiter’s leaving on', async (t) => {
  const all = setUp();
  all.ask('busy', unending(), identity(0, 'busy')).catch(() => {});
  const leave = [new AbortController(), new AbortController()];
  for (const { signal } of leave) all.ask('c0', signal).catch(() => {});
  await settle();
  leave[0]?.abort();
  t.equal(all.guard.inTheWay(attempt(1)), undefined);
  leave[1]?.abort();
  t.strictSame(all.guard.inTheWay(attempt(1)), { containerId: 'c0', attempt: 0, sinceMs: 1_000 });
  all.ask('c0').catch(() => {});
  t.equal(all.guard.inTheWay(attempt(1)), undefined, 'somebody waits again');
});

t.test('12: what is stopped or removed, by its id or a unique prefix, ends the waiting at once', async (t) => {
  const id = 'c0ffee'.padEnd(64, '0');
  for (const prefix of [id, 'c0ff']) {
    const inFlight = setUp();
    await abandoned(inFlight, id);
    await abandoned(inFlight, 'another', identity(0, 'another'));
    const next = outcomeOf(inFlight.guard.pass(attempt(1), unending()));
    inFlight.store.ended('container', prefix);
    await settle();
    t.equal(next.now, undefined, 'it goes');
    t.equal(inFlight.runtime.calls[0]?.signal.aborted, false, 'the start goes on');
    t.equal(inFlight.guard.inTheWay(attempt(1, 'another'))?.containerId, 'another');
    inFlight.runtime.calls[0]?.end();
    await settle();
    t.strictSame(inFlight.store.sizes, { inFlight: 1, past: 0, podSandboxes: 1 }, 'nothing of it is kept');

    const past = setUp();
    await finished(past, id);
    past.store.ended('container', prefix);
    await t.resolves(past.guard.pass(attempt(1), unending()));
    t.strictSame(past.store.sizes, nothing);
  }
});

t.test('12: nothing is kept of a start whose container was stopped, however it ends', async (t) => {
  const all = setUp();
  await abandoned(all);
  all.store.ended('container', 'c0');
  all.runtime.calls[0]?.fail(new Error('UNAVAILABLE'));
  await settle();
  t.strictSame(all.store.sizes, nothing);
});

t.test('12: whoever waits for a start whose container is stopped hears what the runtime says', async (t) => {
  const all = setUp();
  const asked = all.ask('c0');
  await settle();
  all.store.ended('container', 'c0');
  all.runtime.calls[0]?.end();
  t.equal((await asked).answer, 'started');
});

t.test('12: an empty id ends nothing', async (t) => {
  const all = setUp();
  await abandoned(all);
  all.store.ended('podSandbox', '');
  all.store.ended('container', '');
  t.ok(all.guard.inTheWay(attempt(1)));
});

t.test('12: an id that names nothing, or more than one, ends nothing', async (t) => {
  const all = setUp({ limit: 3 });
  const ids = ['c0'.padEnd(64, '0'), 'c1'.padEnd(64, '1'), 'd'.padEnd(64, 'd')];
  const [first = '', second = '', third = ''] = ids;
  await finished(all, first, identity(0, 'a', 'sandbox-1'));
  await abandoned(all, second, identity(0, 'b', 'sandbox-2'));
  await abandoned(all, third, identity(0, 'c', 'sandbox-2'));
  for (const id of ['', 'c', 'e', `${first}0`, first.slice(1)]) all.store.ended('container', id);
  for (const id of ['', 'sandbox', 'andbox-1', first]) all.store.ended('podSandbox', id);
  all.store.ended('container', 'sandbox-1');
  for (const family of ['a', 'b', 'c']) t.ok(all.guard.inTheWay(attempt(1, family)), family);
  all.store.ended('podSandbox', 'sandbox-2');
  t.same(
    ['a', 'b', 'c'].map((family) => all.guard.inTheWay(attempt(1, family)) !== undefined),
    [true, false, false],
  );
});

t.test(
  '12: the end of a pod sandbox, by its id or a unique prefix, ends the waiting for the starts in it',
  async (t) => {
    const sandbox = 'abc'.padEnd(64, '0');
    for (const prefix of [sandbox, 'abc']) {
      const all = setUp({ limit: 2 });
      await finished(all, 'c0', identity(0, 'c', sandbox));
      await abandoned(all, 'd0', identity(0, 'd', sandbox));
      await abandoned(all, 'e0', identity(0, 'e', 'another'));
      const next = [
        outcomeOf(all.guard.pass(attempt(1, 'd'), unending())),
        outcomeOf(all.guard.pass(attempt(1, 'e'), unending())),
      ];
      all.store.ended('podSandbox', prefix);
      await settle();
      t.same(
        next.map(({ now }) => now),
        [undefined, 'waits'],
      );
      t.equal(all.guard.inTheWay(attempt(1, 'c')), undefined);
      t.equal(
        all.runtime.calls.find(({ signal }) => signal.aborted),
        undefined,
        'nothing is cut short upstream',
      );
      t.equal(all.store.sizes.past, 0);
    }
  },
);

t.test('12: a queued start of a container or pod sandbox that has ended never reaches the runtime', async (t) => {
  for (const [kind, id] of [
    ['container', 'c0'],
    ['podSandbox', 'sandbox'],
  ] as const) {
    const all = setUp();
    all.ask('busy', unending(), identity(0, 'busy', 'another')).catch(() => {});
    await settle();
    await abandoned(all);
    const next = outcomeOf(all.guard.pass(attempt(1), unending()));
    all.store.ended(kind, id);
    await settle();
    t.equal(next.now, undefined, 'the creation goes');
    all.runtime.calls[0]?.end();
    await settle();
    t.equal(all.runtime.calls.length, 1);
    t.ok(all.steps.includes('dropped'));
    t.strictSame(all.store.sizes, { inFlight: 0, past: 1, podSandboxes: 1 });
  }
});

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
  t.equal(all.store.sizes.inFlight, 1);
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
  t.strictSame(all.store.sizes, { inFlight: 0, past: 1, podSandboxes: 0 }, 'nothing can be held against anybody');
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
  t.strictSame(all.store.sizes, nothing);
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

t.test('18: what a start is at can be told, and whoever leaves is told', async (t) => {
  const all = setUp();
  t.equal(all.store.progressOf('c0'), undefined);
  all.ask('busy', unending(), identity(0, 'busy')).catch(() => {});
  all.ask('before', unending(), identity(0, 'before')).catch(() => {});
  await settle();
  const leave = new AbortController();
  const asked = t.rejects(all.ask('c0', leave.signal), {
    name: 'WaiterLeftError',
    progress: { at: 'queued', sinceMs: 1_000, behind: 1 },
  });
  await settle();
  t.strictSame(all.store.progressOf('c0'), { at: 'queued', sinceMs: 1_000, behind: 1 });
  leave.abort();
  await asked;
  await all.clock.advance(500);
  all.runtime.calls[0]?.end();
  await settle();
  all.runtime.calls[1]?.end();
  await settle();
  t.strictSame(all.store.progressOf('c0'), { at: 'running', sinceMs: 1_500 });
  all.runtime.calls[2]?.end();
  await settle();
  t.equal(all.store.progressOf('c0'), undefined);
});

t.test('12: a queued start nobody asked for within the hold time is dropped', async (t) => {
  const all = setUp();
  all.ask('busy', unending(), identity(0, 'busy')).catch(() => {});
  await settle();
  await abandoned(all);
  await all.clock.advance(10_001);
  const next = outcomeOf(all.guard.pass(attempt(1), unending()));
  all.runtime.calls[0]?.end();
  await settle();
  t.equal(all.runtime.calls.length, 1);
  t.ok(all.steps.includes('dropped'));
  t.equal(next.now, undefined, 'the creation goes');
  t.equal(all.runtime.looks, 0, 'nothing was done');
});

t.test('19: a queued start that was joined and left again counts among those nobody waits for', async (t) => {
  const all = setUp({ maxEntries: 1 });
  all.ask('busy', unending(), identity(0, 'busy')).catch(() => {});
  await settle();
  await abandoned(all, 'c0');
  await abandoned(all, 'c0');
  await abandoned(all, 'd0', identity(0, 'd'));
  t.ok(all.steps.includes('dropped'));
  t.equal(all.store.progressOf('c0'), undefined, 'the oldest has made room');
  t.equal(all.store.sizes.inFlight, 2);
});

t.test('19: past starts make room for one another, and end with replay-ttl', async (t) => {
  const all = setUp({ maxEntries: 2 });
  await finished(all, 'a0', identity(0, 'a'));
  await finished(all, 'b0', identity(0, 'b', 'sandbox-b'));
  await all.clock.advance(10_000);
  await finished(all, 'c0', identity(0, 'c'));
  t.same(
    ['a', 'b', 'c'].map((family) => all.guard.inTheWay(attempt(1, family)) !== undefined),
    [false, true, true],
  );
  t.equal(all.guard.sizes.containers, 2);
  await all.clock.advance(20_001);
  t.equal(all.guard.inTheWay(attempt(1, 'b')), undefined);
  t.ok(all.guard.inTheWay(attempt(1, 'c')));
  t.strictSame(all.store.sizes, { inFlight: 0, past: 1, podSandboxes: 1 });
  t.equal(all.guard.sizes.containers, 1);
  const repeat = outcomeOf(all.ask('b0', unending(), identity(0, 'b')));
  await settle();
  t.equal(repeat.now, 'waits');
  t.equal(all.runtime.calls.length, 4, 'b0 is started anew');
});

t.test('19: finished starts do not keep their requests', async (t) => {
  setFlagsFromString('--expose-gc');
  const collectGarbage: () => void = runInNewContext('gc');
  const requestBytes = 2 ** 20;
  const all = setUp({ limit: 100 });
  const keptBytes = async () => {
    // Buffers are given back in the background.
    for (let n = 0; n < 3; n++) {
      collectGarbage();
      await settle();
    }
    return process.memoryUsage().arrayBuffers;
  };
  const before = await keptBytes();
  const start = async (n: number) => {
    const bytes = Buffer.alloc(requestBytes, n);
    const request = { containerId: `c${n}`, bytes, origin: 'test', known: identity(0, `c${n}`) };
    return (await all.store.request(request, unending())).settle(false);
  };
  const started = Promise.all(Array.from({ length: 100 }, (_, n) => start(n)));
  await settle();
  t.ok((await keptBytes()) - before > 90 * requestBytes, 'while they run');
  for (const [n, call] of all.runtime.calls.entries()) {
    if (n % 2 === 0) call.end();
    else call.fail(new Error('UNAVAILABLE'));
  }
  await started.catch(() => {});
  await settle();
  t.equal(all.store.sizes.past, 100);
  const kept = (await keptBytes()) - before;
  t.ok(kept < 5 * requestBytes, `${kept / requestBytes} MiB of 100`);
});

t.test('a Holdfast that ends answers every waiter, and leaves no timer', async (t) => {
  const all = setUp();
  all.runtime.identifiesByHand = true;
  const asked = [all.ask('c0'), all.ask('d0', unending(), identity(0, 'd')), all.askUnknown('e0')];
  await settle();
  all.store.close();
  for (const each of asked) await t.rejects(each, ShutDownError);
  t.equal(all.runtime.calls[0]?.signal.aborted, true);
  await settle();
  t.equal(all.clock.pending, 0);
  t.equal(all.store.sizes.inFlight, 0);
});

/** What chance decides, in order; where it has run out all goes well and at once. */
class Tape {
  readonly #numbers: readonly number[];
  #next = 0;

  constructor(numbers: readonly number[]) {
    this.#numbers = numbers;
  }

  get hasEnded(): boolean {
    return this.#next >= this.#numbers.length;
  }

  /** @returns From 0 to below `bound`. */
  below(bound: number): number {
    return (this.#numbers[this.#next++] ?? 0) % bound;
  }

  /** Whether what happens once in `times` does. */
  oneIn(times: number): boolean {
    return this.below(times) === times - 1;
  }
}

interface SimulatedContainer {
  readonly id: string;
  readonly family: string;
  readonly attempt: number;
  state: 'created' | 'running' | 'exited';
  /** Moment of the look at which its start was decided. */
  decidedAt: number;
  /** Moment its process began; undefined: it never ran. */
  ranAt: number | undefined;
}

/** A runtime, the store and the guard, and what a creation store does with the guard, second by second. */
class World {
  readonly clock = new ManualClock();
  readonly guard = new SecondCopyGuard(this.clock);
  readonly store: StartStore<string, string>;
  readonly containers: SimulatedContainer[] = [];
  readonly wrong: string[] = [];
  /** Looks and runs so far. */
  moment = 0;
  /** Calls that have not been answered. */
  open = 0;
  /** Creations refused by the guard. */
  refused = 0;
  readonly #tape: Tape;
  /** Containers of which Holdfast has said that it does not know whether they run, and that it does not wait for them. */
  readonly #letGo = new Set<string>();
  #sleepers: (() => void)[] = [];
  /** By family: creations that nobody has been given. */
  readonly #creations = new Map<string, { waiters: number; made: Promise<SimulatedContainer> }>();

  constructor(tape: Tape) {
    this.#tape = tape;
    const runtime: StartRuntime<string, string> = {
      start: (_, id, signal) => this.#start(id, signal),
      isRefusal: (error) => error instanceof Refusal,
      identify: async (id) => {
        await this.seconds(tape.below(4));
        if (tape.oneIn(8)) throw new Error('whose it is cannot be told');
        return this.identityOf(id);
      },
      stateOf: async (id) => {
        await this.seconds(tape.below(3));
        if (tape.oneIn(3)) throw new Error('it cannot be seen');
        return { state: this.containers.find((each) => each.id === id)?.state ?? 'gone' };
      },
    };
    const options = { creationTimeoutMs: 5_000, holdTtlMs: 50_000, replayTtlMs: 900_000, maxEntries: 100 };
    const observe = (step: string, { containerId }: { containerId: string }) => {
      if (step === 'guarded') this.refused += 1;
      if (step === 'let go') this.#letGo.add(containerId);
    };
    this.store = new StartStore(runtime, this.guard, plainAdmission(2, this.clock), this.clock, observe, options);
  }

  identityOf(id: string): StartIdentity | undefined {
    const found = this.containers.find((each) => each.id === id);
    return found && identity(found.attempt, found.family, sandboxOf(found.family));
  }

  async seconds(count: number): Promise<void> {
    for (let n = 0; n < count; n++) await new Promise<void>((resolve) => this.#sleepers.push(resolve));
  }

  async pass(): Promise<void> {
    for (const container of this.containers) {
      if (container.state === 'running' && this.#tape.oneIn(6)) container.state = 'exited';
    }
    for (const wake of this.#sleepers.splice(0)) wake();
    await this.clock.advance(1_000);
  }

  stop(family: string): void {
    for (const container of this.containers) if (container.family === family) container.state = 'exited';
    this.store.ended('podSandbox', sandboxOf(family));
  }

  /** As a creation store has it: it goes on without its waiters, and the next request joins it or is given what was made. */
  async create(family: string, number: number, signal: AbortSignal): Promise<SimulatedContainer> {
    const creation = this.#creations.get(family) ?? { waiters: 0, made: this.#make(family, number) };
    this.#creations.set(family, creation);
    creation.waiters += 1;
    const left = new Promise<never>((_, reject) => {
      signal.addEventListener('abort', () => reject(new WaiterLeftError()), { once: true });
    });
    try {
      const made = await Promise.race([creation.made, left]);
      this.#creations.delete(family);
      return made;
    } finally {
      creation.waiters -= 1;
    }
  }

  async #make(family: string, number: number): Promise<SimulatedContainer> {
    const asked = attempt(number, family);
    this.open += 1;
    try {
      do await this.guard.pass(asked, unending());
      while (this.guard.inTheWay(asked) !== undefined);
    } catch (error) {
      const waiters = this.#creations.get(family)?.waiters ?? 0;
      this.#creations.delete(family);
      if (error instanceof StartedMeanwhileError && waiters === 0) error.unheard();
      throw error;
    } finally {
      this.open -= 1;
    }
    const made: SimulatedContainer = {
      id: `${family}${number}`,
      family,
      attempt: number,
      state: 'created',
      decidedAt: 0,
      ranAt: undefined,
    };
    this.containers.push(made);
    return made;
  }

  async #start(id: string, signal: AbortSignal): Promise<string> {
    await this.seconds(this.#tape.below(8));
    const container = this.containers.find((each) => each.id === id);
    if (container?.state !== 'created') throw new Refusal(`it is ${container?.state}`);
    const outcome = this.#tape.below(8);
    if (outcome === 7) {
      container.state = 'exited';
      throw new Refusal('no such file');
    }
    if (outcome === 6 || signal.aborted) throw new Error('UNAVAILABLE, and not started');
    this.#run(container);
    if (outcome === 5) throw new Error('UNAVAILABLE, and started');
    return 'started';
  }

  #run(container: SimulatedContainer): void {
    this.moment += 1;
    container.state = 'running';
    container.ranAt = this.moment;
    for (const other of this.containers) {
      if (other === container || other.family !== container.family || this.#letGo.has(other.id)) continue;
      if (other.state === 'running') this.wrong.push(`${other.id} and ${container.id} run`);
      if (other.ranAt !== undefined && other.ranAt > container.decidedAt) {
        this.wrong.push(`${container.id} runs, and ${other.id} has run since its start was decided`);
      }
    }
  }
}

function sandboxOf(family: string): string {
  return `sandbox of ${family}`;
}

/** Drives one container as a kubelet's worker does: looks, pulls, creates, starts, and gives up each call at its deadline. */
async function work(world: World, tape: Tape, family: string): Promise<void> {
  while (!tape.hasEnded) {
    await world.seconds(1);
    world.moment += 1;
    const lookedAt = world.moment;
    const last = world.containers.filter((each) => each.family === family).at(-1);
    if (last?.state === 'running') continue;
    if (tape.oneIn(16)) {
      world.stop(family);
      continue;
    }
    await world.seconds(tape.below(6));
    try {
      const made = await within(world, tape, (signal) => world.create(family, (last?.attempt ?? -1) + 1, signal));
      made.decidedAt = lookedAt;
      const known = tape.oneIn(3) ? undefined : world.identityOf(made.id);
      const request = { containerId: made.id, bytes: Buffer.alloc(1), origin: made.id, known };
      const twice = tape.oneIn(6) ? [1, 2] : [1];
      const grants = await within(world, tape, (signal) =>
        Promise.all(twice.map(() => world.store.request(request, signal))),
      );
      for (const grant of grants) grant.settle(!tape.oneIn(4));
    } catch (error) {
      if (!(error instanceof Error)) throw error;
    }
  }
}

/** A call with a deadline. */
async function within<T>(world: World, tape: Tape, ask: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const deadline = new AbortController();
  void world.seconds(tape.below(6) + 1).then(() => deadline.abort());
  world.open += 1;
  try {
    return await ask(deadline.signal);
  } finally {
    world.open -= 1;
  }
}

t.test(
  '12: whatever happens, no container runs twice without a look in between, nobody waits for ever, and nothing is left',
  async (t) => {
    const families = ['a', 'b', 'c'];
    let [runs, guarded] = [0, 0];
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(5_039), { minLength: 100, maxLength: 400 }), async (numbers) => {
        const tape = new Tape(numbers);
        const world = new World(tape);
        let working = families.length;
        for (const family of families) void work(world, tape, family).then(() => (working -= 1));
        for (let seconds = 0; working > 0 && seconds < 2_000; seconds++) await world.pass();
        for (let seconds = 0; seconds < 200; seconds++) await world.pass();
        if (world.wrong.length > 0) throw new Error(world.wrong.join('\n'));
        if (working > 0 || world.open > 0 || world.store.sizes.inFlight > 0)
          throw new Error('something waits for ever');
        await world.clock.advance(900_001);
        const left = { ...world.store.sizes, ...world.guard.sizes, timers: world.clock.pending };
        if (Object.values(left).some((count) => count > 0)) throw new Error(`left: ${JSON.stringify(left)}`);
        runs += world.containers.filter(({ ranAt }) => ranAt !== undefined).length;
        guarded += world.refused;
      }),
      { numRuns: 300 },
    );
    t.comment(`${runs} runs, ${guarded} creations refused`);
    t.ok(runs > 0 && guarded > 0);
  },
);

import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import t from 'tap';
import { CallTimeoutError, ShutDownError, WaiterLeftError } from '../../src/cache/detached-call.js';
import { StartedMeanwhileError } from '../../src/cache/second-copy-guard.js';
import { settle } from '../support/manual-clock.js';
import { abandoned, attempt, finished, identity, keptIn, outcomeOf, Refusal, setUp, unending } from './start-rig.js';

const nothing = { inFlight: 0, past: 0 };

t.test('12: whoever has left before it is heard starts nothing', async (t) => {
  const all = setUp();
  await t.rejects(all.ask('c0', AbortSignal.abort()), WaiterLeftError);
  t.strictSame(keptIn(all.store), nothing);
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
  t.strictSame(keptIn(all.store), nothing);
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
  t.strictSame(keptIn(all.store), nothing);
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
    t.strictSame(keptIn(inFlight.store), { inFlight: 1, past: 0 }, 'nothing of it is kept');

    const past = setUp();
    await finished(past, id);
    past.store.ended('container', prefix);
    await t.resolves(past.guard.pass(attempt(1), unending()));
    t.strictSame(keptIn(past.store), nothing);
  }
});

t.test('12: nothing is kept of a start whose container was stopped, however it ends', async (t) => {
  for (const fails of [true, false]) {
    const all = setUp();
    await abandoned(all);
    all.store.ended('container', 'c0');
    const [call] = all.runtime.calls;
    if (fails) call?.fail(new Error('UNAVAILABLE'));
    else call?.end();
    await settle();
    t.strictSame(keptIn(all.store), nothing);
  }
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
      t.equal(keptIn(all.store).past, 0);
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
    t.strictSame(keptIn(all.store), { inFlight: 0, past: 1 });
  }
});

t.test('13: what goes to the runtime is what came, for whom it came', async (t) => {
  const { runtime, store } = setUp({ limit: 2 });
  const known = { containerId: 'c0', bytes: Buffer.from('start c0'), origin: 'kubelet', known: identity(0) };
  const first = store.request(known, unending());
  store.request({ containerId: 'd0', bytes: Buffer.from('start d0'), origin: 'crictl' }, unending()).catch(() => {});
  await settle();
  t.same(
    runtime.calls.map(({ text, origin }) => `${text} for ${origin}`),
    ['start c0 for kubelet', 'start d0 for crictl'],
  );
  runtime.calls[0]?.end();
  await first;
  runtime.states.set('c0', 'running');
  await store.request({ ...known, origin: 'another' }, unending());
  t.same(runtime.questions, ['whose is d0? asks crictl', 'how is c0? asks kubelet']);
});

t.test('12: each step of a start is told, with how long it has been about', async (t) => {
  const all = setUp();
  const leave = new AbortController();
  all.ask('c0', leave.signal).catch(() => {});
  all.ask('c0', leave.signal).catch(() => {});
  all.ask('d0', unending(), identity(0, 'd')).catch(() => {});
  await all.clock.advance(20);
  leave.abort();
  await all.clock.advance(10);
  all.runtime.calls[0]?.end();
  all.runtime.states.set('c0', 'running');
  await settle();
  const replayed = await all.ask('c0');
  replayed.settle(true);
  replayed.settle(true);
  all.runtime.calls[1]?.end();
  await settle();
  t.strictSame(all.told, [
    { step: 'queued', containerId: 'c0', ageMs: 0, behind: 0 },
    { step: 'waiter joined', containerId: 'c0', ageMs: 0, waiters: 2 },
    { step: 'queued', containerId: 'd0', ageMs: 0, behind: 1 },
    { step: 'started', containerId: 'c0', ageMs: 0 },
    { step: 'waiter left', containerId: 'c0', ageMs: 20, waiters: 1 },
    { step: 'waiter left', containerId: 'c0', ageMs: 20, waiters: 0 },
    { step: 'held', containerId: 'c0', ageMs: 30, waiters: 0 },
    { step: 'started', containerId: 'd0', ageMs: 30 },
    { step: 'replayed', containerId: 'c0', ageMs: 30 },
    { step: 'delivered', containerId: 'c0', ageMs: 30 },
    { step: 'answered', containerId: 'd0', ageMs: 30, waiters: 1 },
  ]);
});

t.test('12: why a start failed is told, and how many heard it', async (t) => {
  const all = setUp();
  const refusal = new Refusal('no such file');
  const asked = [outcomeOf(all.ask('c0')), outcomeOf(all.ask('c0'))];
  await all.clock.advance(5);
  all.runtime.calls[0]?.fail(refusal);
  await settle();
  t.same(
    asked.map(({ now }) => now),
    [refusal, refusal],
  );
  t.strictSame(all.told.at(-1), { step: 'failed', containerId: 'c0', ageMs: 5, waiters: 2, error: refusal });
});

t.test(
  '12: which creation a start was held against is told, and how its container was, where it was seen',
  async (t) => {
    for (const state of ['running', undefined] as const) {
      const all = setUp();
      await finished(all);
      all.runtime.states.set('c0', state ?? new Error('away'));
      await t.rejects(all.guard.pass(attempt(3), unending()), StartedMeanwhileError);
      t.strictSame(all.told.at(-1), { step: 'guarded', containerId: 'c0', ageMs: 0, askedAttempt: 3, state });
    }
  },
);

t.test('12: why a start is not held against creations any more is told', async (t) => {
  const all = setUp();
  await abandoned(all);
  all.runtime.calls[0]?.fail(new Error('UNAVAILABLE'));
  await settle();
  const away = new Error('away');
  all.runtime.states.set('c0', away);
  for (let n = 0; n < 3; n++) await t.rejects(all.guard.pass(attempt(1), unending()), away);
  t.strictSame(all.told.at(-1), { step: 'let go', containerId: 'c0', ageMs: 0, error: away });
});

t.test('15: a start that hangs is told with its times, and lets others go', async (t) => {
  const all = setUp({ admission: { hung: { deadlineShare: 0.5, most: 1, giveUp: undefined } } });
  const deadlineMs = all.clock.now() + 20_000;
  const request = { containerId: 'c0', bytes: Buffer.alloc(0), origin: 'test', known: identity(0) };
  all.store.request({ ...request, urgency: { deadlineMs } }, unending()).catch(() => {});
  all.ask('d0', unending(), identity(0, 'd')).catch(() => {});
  await all.clock.advance(60_000);
  const hangs = all.told.find(({ step }) => step === 'hangs');
  t.match(hangs, { containerId: 'c0', tookMs: Number, usualMs: undefined });
  t.ok(hangs && 'usualMs' in hangs);
  t.equal(all.runtime.calls.length, 2);
});

t.test('15: starts go by how urgent they are, and before the making of containers', async (t) => {
  const all = setUp();
  const ask = (id: string, urgency = {}) => {
    const request = { containerId: id, bytes: Buffer.from(id), origin: 'test', known: identity(0, id), urgency };
    all.store.request(request, unending()).catch(() => {});
  };
  ask('busy');
  await settle();
  const run = async () => {
    void all.runtime.start(Buffer.from('container'), 'test', unending());
    return true;
  };
  void all.admission.admit({ kind: 'container', run });
  ask('plain');
  ask('static', { importance: 'static' });
  for (const n of [0, 1, 2]) {
    all.runtime.calls[n]?.end();
    await settle();
  }
  t.same(
    all.runtime.calls.map(({ text }) => text),
    ['busy', 'static', 'plain', 'container'],
  );
});

t.test('12: a second start that is dropped leaves in doubt what became of the first', async (t) => {
  const all = setUp();
  await abandoned(all);
  all.runtime.calls[0]?.fail(new Error('UNAVAILABLE'));
  await settle();
  all.ask('busy', unending(), identity(0, 'busy')).catch(() => {});
  await settle();
  await abandoned(all);
  await all.clock.advance(10_001);
  all.runtime.calls[1]?.end();
  await settle();
  t.ok(all.steps.includes('dropped'));
  all.runtime.states.set('c0', 'running');
  await t.rejects(all.guard.pass(attempt(1), unending()), StartedMeanwhileError);
});

t.test('12: an id of full length is no prefix of another', async (t) => {
  const id = 'c'.padEnd(64, '0');
  const all = setUp();
  await abandoned(all, `${id}1`, identity(0, 'c', `${id}2`));
  all.store.ended('container', id);
  all.store.ended('podSandbox', id);
  t.ok(all.guard.inTheWay(attempt(1)));
  all.store.ended('container', id.slice(1));
  all.store.ended('container', id.slice(0, 63));
  t.equal(all.guard.inTheWay(attempt(1)), undefined);
});

t.test('12: an id that is the begin of another means the one it is', async (t) => {
  const all = setUp({ limit: 2 });
  await abandoned(all, 'a', identity(0, 'a', 'sandbox'));
  await abandoned(all, 'ab', identity(0, 'ab', 'sandbox-2'));
  await finished(all, 'b', identity(0, 'b', 'sandbox-3'));
  await finished(all, 'bc', identity(0, 'bc', 'sandbox-3'));
  const inTheWay = () => ['a', 'ab', 'b', 'bc'].filter((family) => all.guard.inTheWay(attempt(1, family)));
  all.store.ended('container', 'b');
  t.same(inTheWay(), ['a', 'ab', 'bc']);
  all.store.ended('podSandbox', 'sandbox');
  t.same(inTheWay(), ['ab', 'bc']);
});

t.test('18: what a start is at can be told, and whoever leaves is told', async (t) => {
  const all = setUp();
  const progressOf = (id: string) => all.store.census.views().find(({ containerId }) => containerId === id)?.progress;
  t.notOk(all.store.isInFlight('c0'));
  all.ask('busy', unending(), identity(0, 'busy')).catch(() => {});
  all.ask('before', unending(), identity(0, 'before')).catch(() => {});
  await settle();
  const leave = new AbortController();
  const asked = t.rejects(all.ask('c0', leave.signal), {
    name: 'WaiterLeftError',
    progress: { at: 'queued', sinceMs: 1_000, behind: 1 },
  });
  await settle();
  t.ok(all.store.isInFlight('c0'));
  t.strictSame(progressOf('c0'), { at: 'queued', sinceMs: 1_000, behind: 1 });
  leave.abort();
  await asked;
  await all.clock.advance(500);
  all.runtime.calls[0]?.end();
  await settle();
  all.runtime.calls[1]?.end();
  await settle();
  t.strictSame(progressOf('c0'), { at: 'running', sinceMs: 1_500 });
  all.runtime.calls[2]?.end();
  await settle();
  t.notOk(all.store.isInFlight('c0'));
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
  t.equal(all.store.found('c0'), undefined, 'the oldest has made room');
  t.equal(keptIn(all.store).inFlight, 2);
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
  t.strictSame(keptIn(all.store), { inFlight: 0, past: 1 });
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
  t.equal(keptIn(all.store).past, 100);
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
  t.equal(keptIn(all.store).inFlight, 0);
});

/** What is said of creations and starts in each of their states. */
import t from 'tap';
import type { CreationView, StartView } from '../../src/cache/creation-view.js';
import { containerFamily } from '../../src/cache/fingerprint.js';
import type { Obstacle, Progress } from '../../src/cache/progress.js';
import {
  reportCreation,
  reportFailing,
  reportForgotten,
  reportGivenUp,
  reportKept,
  reportStart,
} from '../../src/proxy/creation-report.js';

const nowMs = 1_000_000;
const context = {
  nowMs,
  load: { limit: 9, hung: 0, pressure: new Map<string, number>() },
  wedgeAfterMs: 120_000,
  creationTimeoutMs: 900_000,
  holdTtlMs: 600_000,
};
const pod = { namespace: 'shop', name: 'web', uid: 'u' };
const podSandbox = { kind: 'podSandbox', ...pod, attempt: 1 } as const;
const container = { kind: 'container', ...pod, container: 'app', attempt: 2 } as const;
const ago = (s: number) => nowMs - s * 1_000;

function creation(more: Partial<CreationView> = {}): CreationView {
  return {
    identity: container,
    state: 'running',
    begunMs: ago(30),
    stateSinceMs: ago(20),
    lastAskedMs: ago(5),
    waiters: 1,
    id: undefined,
    podSandboxId: 's1',
    isHidden: false,
    progress: { at: 'running', sinceMs: ago(20) },
    place: undefined,
    hungSinceMs: undefined,
    timesGivenUp: 0,
    failures: undefined,
    reservation: undefined,
    removalError: undefined,
    heldUntilMs: undefined,
    ...more,
  };
}

const queued: Progress = { at: 'queued', sinceMs: ago(30), behind: 3 };
const waiting = (obstacle: Obstacle): Partial<CreationView> => ({
  state: 'queued',
  progress: { at: 'waiting', sinceMs: ago(30), for: obstacle },
});
const failures = { identity: container, count: 3, lastMs: ago(1), nextMs: nowMs + 4_000, error: 'no network' };

t.test('all that is known of a creation is told, in ms from now', (t) => {
  const hungSinceMs = ago(4);
  t.same(reportCreation(creation({ hungSinceMs, timesGivenUp: 2, isHidden: true, id: 'c1', failures }), context), {
    kind: 'container',
    namespace: 'shop',
    pod: 'web',
    uid: 'u',
    container: 'app',
    attempt: 2,
    id: 'c1',
    podSandboxId: 's1',
    state: 'running',
    stuck: true,
    ageMs: 30_000,
    stateForMs: 20_000,
    askedAgoMs: 5_000,
    waiters: 1,
    queue: undefined,
    waitsFor: 'holdfast: the runtime is still making this container after 20 s; it goes on, ask again',
    hungForMs: 4_000,
    hidden: true,
    next: 'when it ends whoever waits is answered; it is cancelled in 880 s at the latest',
    timesGivenUp: 2,
    failures: { count: 3, lastAgoMs: 1_000, nextInMs: 4_000 },
    reserved: undefined,
    lastError: 'no network',
  });
  const told = reportCreation(creation({ identity: podSandbox, podSandboxId: '' }), context);
  t.same(
    [told.container, told.podSandboxId, told.timesGivenUp, told.hungForMs, told.stuck],
    [undefined, undefined, undefined, undefined, false],
  );
  t.equal(told.lastError, undefined, 'nothing went wrong');
  t.end();
});

t.test('its place in the queue and the name that is taken are told', (t) => {
  const place = { before: 3, class: 'container', sinceMs: ago(10) } as const;
  t.same(reportCreation(creation({ state: 'queued', progress: queued, place }), context).queue, {
    before: 3,
    class: 'container',
    forMs: 10_000,
  });
  const reservation = { holderId: 'x', sinceMs: ago(8), tries: 4, isWedged: false, error: new Error('busy') };
  const told = reportCreation(creation({ reservation, removalError: new Error('other'), failures }), context);
  t.same(told.reserved, { by: 'x', forMs: 8_000, tries: 4, wedged: false, remedy: undefined });
  t.equal(told.lastError, 'busy');
  t.match(reportCreation(creation({ reservation: { ...reservation, isWedged: true } }), context), {
    stuck: true,
    reserved: { wedged: true, remedy: /crictl rm --force x/ },
  });
  t.equal(
    reportCreation(creation({ removalError: new Error('x'.repeat(999)), failures }), context).lastError?.length,
    300,
  );
  t.end();
});

const removal = (s: number): Obstacle => ({ what: 'removal', id: 'x', sinceMs: ago(s), error: () => undefined });
const start = (s: number): Obstacle => ({ what: 'start', containerId: 'x', attempt: 0, sinceMs: ago(s) });

const stuck: [what: string, view: Partial<CreationView>, isStuck: boolean][] = [
  ['a container that runs for two minutes', { stateSinceMs: ago(120) }, false],
  ['one that runs for longer', { stateSinceMs: ago(121) }, true],
  ['a pod sandbox that runs for four minutes', { identity: podSandbox, stateSinceMs: ago(240) }, false],
  ['one that runs for longer', { identity: podSandbox, stateSinceMs: ago(241) }, true],
  ['one that hangs', { hungSinceMs: ago(1) }, true],
  ['one that is held for long', { state: 'held', progress: undefined, stateSinceMs: ago(999) }, false],
  ['one that has failed twice', { failures: { ...failures, count: 2 } }, false],
  ['one that has failed three times', { failures }, true],
  ['one that has failed two minutes ago', { failures: { ...failures, lastMs: ago(120) } }, true],
  ['one that has failed longer ago', { failures: { ...failures, lastMs: ago(121) } }, false],
  ['what has failed and is made', { failures, progress: undefined, state: 'delivered' }, false],
  ['what cannot be removed', { state: 'doomed', progress: undefined, removalError: new Error('busy') }, true],
  ['what waits a minute for a removal', waiting(removal(60)), false],
  ['what waits longer for one', waiting(removal(61)), true],
  ['what waits a minute for a start', waiting(start(60)), false],
  ['what waits longer for one', waiting(start(61)), true],
  ['what pauses', waiting({ what: 'pause', failures: 3, untilMs: nowMs }), false],
];
for (const [what, view, isStuck] of stuck) {
  t.test(`${what} ${isStuck ? 'needs a look' : 'needs no look'}`, (t) => {
    t.equal(reportCreation(creation(view), context).stuck, isStuck);
    t.end();
  });
}

const place = (before: number) => ({ before, class: 'container', sinceMs: ago(1) }) as const;
const next: [view: Partial<CreationView>, said: string][] = [
  [{ state: 'queued', progress: queued, place: place(0) }, 'it goes as soon as there is a place'],
  [{ state: 'queued', progress: queued }, 'it goes as soon as there is a place'],
  [{ state: 'queued', progress: undefined }, 'it goes as soon as there is a place'],
  [{ state: 'queued', progress: queued, place: place(4) }, 'it goes when the 4 before it have gone'],
  [
    { state: 'queued', progress: queued, waiters: 0 },
    'it goes as soon as there is a place; it is dropped if nobody asks for it within 600 s',
  ],
  [{ progress: undefined }, 'when it ends whoever waits is answered; it is cancelled in 900 s at the latest'],
  [{ waiters: 0 }, 'when it ends it is held for the next request; it is cancelled in 880 s at the latest'],
  [{ waiters: 0, identity: podSandbox }, 'when it ends the kubelet finds it; it is cancelled in 880 s at the latest'],
  [waiting(removal(1)), 'it is made when that is gone, or its removal is given up'],
  [waiting(start(1)), 'it is made if that start fails; else whoever waits is told that the container was started'],
  [waiting({ what: 'pause', failures: 3, untilMs: nowMs + 7_000 }), 'it is tried in 7 s'],
  [
    waiting({ what: 'name', id: 'x', sinceMs: ago(1), error: undefined }),
    'it is tried again, at the latest 10 s after the last time',
  ],
  [{ state: 'answered', progress: undefined }, 'its answer is on its way'],
  [
    { state: 'held', progress: undefined, heldUntilMs: nowMs + 90_000 },
    'the next request gets it; without one it is removed in 90 s',
  ],
  [{ state: 'shown', progress: undefined }, 'the kubelet finds it in its list, or gets it when it asks again'],
  [{ state: 'doomed', progress: undefined }, 'it is removed'],
  [{ state: 'doomed' }, 'it is removed when the runtime has made it'],
  [{ state: 'delivered', progress: undefined }, 'somebody has it: the rest is up to the kubelet'],
  [
    { progress: { at: 'waiting', sinceMs: 0, for: { what: 'name', id: 'x', sinceMs: 0, error: undefined } } },
    'when it ends whoever waits is answered; it is cancelled in 900 s at the latest',
  ],
];
t.test('what comes next is told of each state', (t) => {
  for (const [view, said] of next) t.equal(reportCreation(creation(view), context).next, said);
  t.end();
});

function startView(more: Partial<StartView> = {}): StartView {
  return {
    containerId: 'c1',
    family: containerFamily(container),
    attempt: 2,
    state: 'running',
    begunMs: ago(30),
    stateSinceMs: ago(20),
    lastAskedMs: ago(5),
    waiters: 1,
    progress: { at: 'running', sinceMs: ago(20) },
    place: undefined,
    hungSinceMs: undefined,
    ...more,
  };
}

t.test('all that is known of a start is told', (t) => {
  t.same(reportStart(startView(), context), {
    kind: 'start',
    namespace: 'shop',
    pod: 'web',
    uid: 'u',
    container: 'app',
    attempt: 2,
    id: 'c1',
    state: 'running',
    stuck: false,
    ageMs: 30_000,
    stateForMs: 20_000,
    askedAgoMs: 5_000,
    waiters: 1,
    queue: undefined,
    waitsFor: 'holdfast: the runtime is still starting this container after 20 s; it goes on',
    hungForMs: undefined,
    hidden: false,
    next: 'when it ends whoever waits is answered; it is cancelled in 880 s at the latest',
  });
  t.same(reportStart(startView({ family: undefined, attempt: undefined }), context).pod, undefined);
  t.equal(reportStart(startView({ hungSinceMs: ago(1) }), context).stuck, true);
  t.equal(reportStart(startView({ stateSinceMs: ago(120) }), context).stuck, false);
  t.equal(reportStart(startView({ stateSinceMs: ago(121) }), context).stuck, true);
  t.equal(
    reportStart(startView({ stateSinceMs: ago(999), state: 'started', progress: undefined }), context).stuck,
    false,
  );
  const said = (more: Partial<StartView>) => reportStart(startView(more), context).next;
  t.match(
    said({ waiters: 0 }),
    /^when it ends a repeat is answered, and no second copy made; it is cancelled in 880 s/,
  );
  t.match(said({ state: 'started' }), 'a repeat is answered at once');
  t.match(said({ state: 'unclear' }), 'it is looked at');
  t.match(said({ state: 'queued', progress: queued, place: place(1) }), 'it goes when the 1 before it have gone');
  t.end();
});

t.test('what failed and is not asked for, and what could not be removed, is told', (t) => {
  t.match(reportFailing(failures, nowMs), {
    container: 'app',
    state: 'failing',
    stuck: true,
    ageMs: 1_000,
    stateForMs: 1_000,
    waiters: 0,
    hidden: false,
    waitsFor: 'holdfast: it has failed 3 times in a row, and nobody asks for it now',
    next: 'it is tried when the kubelet asks again, in 4 s at the earliest',
    failures: { count: 3, lastAgoMs: 1_000, nextInMs: 4_000 },
    lastError: 'no network',
  });
  const once = reportFailing({ ...failures, count: 1, nextMs: nowMs }, nowMs);
  t.match(once, { stuck: false, waitsFor: /failed once, and/, failures: { nextInMs: 0 } });
  t.equal(once.next, 'it is tried when the kubelet asks again');
  t.equal(reportFailing({ ...failures, nextMs: ago(3) }, nowMs).failures?.nextInMs, 0);
  t.match(reportGivenUp({ identity: podSandbox, id: 's1', sinceMs: ago(9), error: new Error('busy') }, nowMs), {
    kind: 'podSandbox',
    id: 's1',
    state: 'removal given up',
    stuck: true,
    ageMs: 9_000,
    waitsFor: 'holdfast: it could not be removed',
    next: /garbage collection/,
    lastError: 'busy',
  });
  t.end();
});

t.test('what became of what was to be forgotten is told in words', (t) => {
  t.match(reportForgotten({ identity: container, state: 'held', did: 'removal begun' }), {
    pod: 'web',
    container: 'app',
    state: 'held',
    outcome: 'done',
    text: /^was held/,
  });
  for (const did of ['dropped', 'tried now', 'memory dropped'] as const) {
    t.ok(reportForgotten({ identity: podSandbox, state: 'queued', did }).text.length > 20, did);
  }
  const reasons = [
    'running',
    'waited for',
    'removal in the way',
    'start in the way',
    'being answered',
    'being removed',
  ];
  const texts = (reasons as 'running'[]).map((refused) => {
    const told = reportForgotten({ identity: podSandbox, state: 'queued', refused });
    t.equal(told.outcome, 'refused');
    return told.text;
  });
  t.equal(new Set(texts).size, reasons.length);
  t.match(reportKept(startView()), {
    kind: 'start',
    container: 'app',
    state: 'running',
    outcome: 'refused',
    text: /under way/,
  });
  t.match(reportKept(startView({ progress: undefined, state: 'started' })), { text: /may have gone through/ });
  t.end();
});

import t from 'tap';
import { type Conditions, passedOverAtMost, type Work, WorkQueue } from '../../src/throttle/work-queue.js';

let works = 0;
/** No two are the same to `t.same`. */
function work(what: Partial<Work> = {}): Work {
  works += 1;
  return { kind: 'podSandbox', deadlineMs: works, run: async () => true, ...what };
}
const now: Conditions = { paceAllows: true, place: 'shared' };
const notPaced: Conditions = { paceAllows: false, place: 'shared' };
const ownPlace: Conditions = { paceAllows: true, place: 'own' };
const critical = () => work({ importance: 'critical' });

/** The classes of what is taken in `count` turns. */
function taken(queue: WorkQueue, count: number): (string | undefined)[] {
  return Array.from({ length: count }, () => {
    const next = queue.take(now);
    return next?.importance ?? next?.kind;
  });
}

t.test('what waits is counted, by class and in all, until it is taken or taken back', (t) => {
  const queue = new WorkQueue(new Map());
  const [one, other] = [work(), work({ kind: 'start' })];
  queue.add(one);
  queue.add(other);
  queue.add(critical());
  t.same(queue.sizes, { static: 0, critical: 1, start: 1, container: 0, podSandbox: 1 });
  queue.delete(one);
  queue.take(now);
  t.same(queue.sizes, { static: 0, critical: 0, start: 1, container: 0, podSandbox: 0 });
  t.end();
});

t.test('taking back what does not wait changes nothing', (t) => {
  const queue = new WorkQueue(new Map([['kata', 1]]));
  const waiting = work();
  queue.add(waiting);
  queue.delete(work());
  queue.delete(work({ handler: 'kata' }));
  queue.delete(work({ kind: 'start' }));
  t.equal(queue.take(now), waiting);
  t.equal(queue.take(now), undefined);
  t.end();
});

t.test('only what is paced waits for the pace', (t) => {
  const queue = new WorkQueue(new Map());
  queue.add(work());
  queue.add(critical());
  t.equal(queue.mayTake(notPaced), false);
  t.equal(queue.mayTake(now), true);
  t.equal(queue.take(notPaced), undefined);
  const start = work({ kind: 'start' });
  queue.add(start);
  t.equal(queue.mayTake(notPaced), true);
  t.equal(queue.take(notPaced), start);
  t.end();
});

t.test('a handler at its limit lets its work go when as much has ended, and others go meanwhile', (t) => {
  const queue = new WorkQueue(new Map([['kata', 2]]));
  const kata = Array.from({ length: 4 }, () => work({ handler: 'kata' }));
  for (const each of kata) queue.add(each);
  const other = work({ handler: 'runc' });
  queue.add(other);
  t.same([queue.take(now), queue.take(now)], [kata[0], kata[1]]);
  t.equal(queue.take(now), other);
  t.equal(queue.mayTake(now), false);
  queue.leftPlace(other, 'shared');
  t.equal(queue.mayTake(now), false, 'a handler without a limit makes no room');
  for (const each of kata.slice(0, 2)) queue.leftPlace(each, 'shared');
  t.same([queue.take(now), queue.take(now), queue.take(now)], [kata[2], kata[3], undefined]);
  t.end();
});

t.test('a handler at its limit does not keep back another that has one', (t) => {
  const queue = new WorkQueue(
    new Map([
      ['kata', 1],
      ['gvisor', 1],
    ]),
  );
  const [kata, second, gvisor] = ['kata', 'kata', 'gvisor'].map((handler) => work({ handler }));
  for (const each of [kata, second, gvisor]) if (each !== undefined) queue.add(each);
  t.same([queue.take(now), queue.take(now), queue.take(now)], [kata, gvisor, undefined]);
  t.end();
});

t.test('in a class what came first goes first, whatever its handler', (t) => {
  const queue = new WorkQueue(new Map([['kata', 9]]));
  const all = ['runc', 'kata', undefined, 'kata', 'runc'].map((handler) => work({ handler }));
  for (const each of all) queue.add(each);
  t.same(
    all.map(() => queue.take(now)),
    all,
  );
  t.end();
});

t.test('who was passed over most goes first of those that have waited too long, and every second turn at most', (t) => {
  const queue = new WorkQueue(new Map());
  for (let n = 0; n < 30; n += 1) queue.add(critical());
  queue.add(work({ kind: 'start' }));
  const begun = taken(queue, 1);
  queue.add(work());
  begun.push(...taken(queue, 1));
  queue.add(work({ kind: 'container' }));
  begun.push(...taken(queue, 20));
  t.same(begun, [
    ...Array.from({ length: passedOverAtMost }, () => 'critical'),
    ...['start', 'critical', 'podSandbox', 'critical', 'container', 'critical'],
  ]);
  t.end();
});

t.test('a class of which nothing waits any more is not passed over', (t) => {
  const queue = new WorkQueue(new Map());
  for (let n = 0; n < 30; n += 1) queue.add(critical());
  const gone = work();
  queue.add(gone);
  taken(queue, passedOverAtMost);
  queue.delete(gone);
  queue.add(work());
  t.same(taken(queue, 2), ['critical', 'critical']);
  t.end();
});

t.test('a class of which more waits stays passed over when one of it is taken back', (t) => {
  const queue = new WorkQueue(new Map());
  for (let n = 0; n < 30; n += 1) queue.add(critical());
  const gone = work();
  queue.add(gone);
  queue.add(work());
  taken(queue, passedOverAtMost);
  queue.delete(gone);
  t.same(taken(queue, 1), ['podSandbox']);
  t.end();
});

t.test('a class that has had its turn is passed over as often again', (t) => {
  const queue = new WorkQueue(new Map());
  for (let n = 0; n < 40; n += 1) queue.add(work({ kind: 'start' }));
  for (let n = 0; n < 40; n += 1) queue.add(work());
  const turns = taken(queue, 2 * (passedOverAtMost + 1));
  const at = turns.flatMap((kind, turn) => (kind === 'podSandbox' ? [turn] : []));
  t.same(at, [passedOverAtMost, 2 * passedOverAtMost + 1]);
  t.end();
});

t.test('of classes that have waited too long the more important one goes first where it was passed over more', (t) => {
  const queue = new WorkQueue(new Map());
  for (let n = 0; n < 30; n += 1) queue.add(critical());
  queue.add(work({ kind: 'start' }));
  const begun = taken(queue, 1);
  queue.add(work({ kind: 'container' }));
  begun.push(...taken(queue, 1));
  queue.add(work());
  begun.push(...taken(queue, 20));
  t.same(begun.slice(passedOverAtMost), ['start', 'critical', 'container', 'critical', 'podSandbox', 'critical']);
  t.end();
});

t.test('a turn of less important work does not count as passing over', (t) => {
  const queue = new WorkQueue(new Map());
  for (let n = 0; n < 60; n += 1) queue.add(critical());
  queue.add(work());
  const begun = taken(queue, passedOverAtMost / 2);
  queue.add(work({ kind: 'start' }));
  begun.push(...taken(queue, 30));
  t.equal(begun.indexOf('podSandbox'), passedOverAtMost);
  t.equal(begun.indexOf('start'), passedOverAtMost + 1 + passedOverAtMost / 2);
  t.end();
});

/** Work for which somebody waits or not, as the test says. */
function awaitable(isAwaited: boolean, what: Partial<Work> = {}): Work & { isAwaited: boolean } {
  return { ...work(what), isAwaited };
}

const takenAll = (queue: WorkQueue, conditions = now): (Work | undefined)[] => {
  const all: (Work | undefined)[] = [];
  for (let next = queue.take(conditions); next !== undefined; next = queue.take(conditions)) all.push(next);
  return all;
};

t.test('within a class what somebody waits for goes first, each by its arrival', (t) => {
  const queue = new WorkQueue(new Map([['kata', 9]]));
  const [a, b, c, d, e] = [
    awaitable(false),
    awaitable(true, { handler: 'kata' }),
    awaitable(false, { handler: 'kata' }),
    work(),
    awaitable(true),
  ];
  for (const each of [a, b, c, d, e]) queue.add(each);
  t.same(takenAll(queue), [b, d, e, a, c]);
  t.end();
});

t.test('what nobody waits for goes before all of a less important class', (t) => {
  const queue = new WorkQueue(new Map());
  const [sandbox, start] = [awaitable(true), awaitable(false, { kind: 'start' })];
  queue.add(sandbox);
  queue.add(start);
  t.same(takenAll(queue), [start, sandbox]);
  t.end();
});

t.test('what is left and asked for again keeps its place by arrival', (t) => {
  const queue = new WorkQueue(new Map());
  const [a, b, c] = [awaitable(true), awaitable(true), awaitable(true)];
  for (const each of [a, b, c]) queue.add(each);
  a.isAwaited = false;
  queue.moved(a);
  b.isAwaited = false;
  queue.moved(b);
  t.equal(queue.sizes.podSandbox, 3);
  b.isAwaited = true;
  queue.moved(b);
  queue.moved(b);
  t.same(takenAll(queue), [b, c, a]);
  t.end();
});

t.test('what is left goes out of the queue as it would have otherwise, and is not in it twice', (t) => {
  const queue = new WorkQueue(new Map());
  const [gone, taken] = [awaitable(true), awaitable(true)];
  for (const each of [gone, taken]) {
    queue.add(each);
    each.isAwaited = false;
    queue.moved(each);
  }
  queue.delete(gone);
  t.equal(queue.take(now), taken);
  for (const each of [gone, taken]) queue.moved(each);
  t.equal(queue.mayTake(now), false);
  t.equal(queue.sizes.podSandbox, 0);
  t.end();
});

t.test('an own place takes static and critical work, the more important first, and no other', (t) => {
  const queue = new WorkQueue(new Map());
  const [sandbox, container, start] = [work(), work({ kind: 'container' }), work({ kind: 'start' })];
  for (const each of [sandbox, container, start]) queue.add(each);
  t.equal(queue.mayTake(ownPlace), false);
  t.equal(queue.take(ownPlace), undefined);
  const [ofCritical, ofStatic] = [critical(), work({ importance: 'static' })];
  queue.add(ofCritical);
  queue.add(ofStatic);
  t.equal(queue.mayTake(ownPlace), true);
  t.same(takenAll(queue, ownPlace), [ofStatic, ofCritical]);
  t.end();
});

t.test('an own place is beyond the limit of a handler, and does not count for it', (t) => {
  const queue = new WorkQueue(new Map([['kata', 1]]));
  const own = { handler: 'kata', importance: 'critical' } as const;
  const [first, second, third, fourth] = [work({ handler: 'kata' }), work(own), work(own), work(own)];
  queue.add(first);
  queue.add(second);
  t.equal(queue.take(ownPlace), second);
  t.equal(queue.take(now), first, 'its limit is not used up by it');
  queue.add(third);
  queue.add(fourth);
  t.equal(queue.take(now), undefined);
  t.equal(queue.take(ownPlace), third, 'nor does its limit keep it back');
  queue.leftPlace(first, 'shared');
  t.equal(queue.take(now), fourth, 'in another place it counts as any other');
  t.equal(queue.take(now), undefined);
  t.end();
});

t.test('an own place is not beyond the pace', (t) => {
  const queue = new WorkQueue(new Map());
  const paced = critical();
  queue.add(paced);
  t.equal(queue.mayTake({ ...ownPlace, paceAllows: false }), false);
  t.equal(queue.take({ ...ownPlace, paceAllows: false }), undefined);
  const start = work({ kind: 'start', importance: 'critical' });
  queue.add(start);
  t.equal(queue.take({ ...ownPlace, paceAllows: false }), start);
  t.equal(queue.take(ownPlace), paced);
  t.end();
});

t.test('who gets an own place passes over nobody who could not have had it', (t) => {
  const queue = new WorkQueue(new Map());
  for (let n = 0; n < 60; n += 1) queue.add(critical());
  queue.add(work());
  for (let n = 0; n < 2 * passedOverAtMost; n += 1) queue.take(ownPlace);
  t.same(taken(queue, passedOverAtMost + 1), [
    ...Array.from({ length: passedOverAtMost }, () => 'critical'),
    'podSandbox',
  ]);
  t.end();
});

t.test('a spare place is for work of which nothing has a place that may go under the same conditions', (t) => {
  const spare: Conditions = { paceAllows: true, place: 'spare' };
  const queue = new WorkQueue(new Map([['kata', 1]]));
  const add = (what: Partial<Work>) => {
    const added = work(what);
    queue.add(added);
    return added;
  };
  const kinds: readonly Partial<Work>[] = [
    {},
    { kind: 'container' },
    { kind: 'start' },
    { isQuick: true },
    { handler: 'kata' },
    { importance: 'critical' },
    { importance: 'critical', kind: 'container' },
    { importance: 'critical', kind: 'start' },
    { importance: 'static', kind: 'start' },
  ];
  const first = kinds.map(add);
  const next = kinds.map(add);
  t.same(new Set(takenAll(queue, spare)), new Set(first), 'one of each');
  t.equal(queue.mayTake(spare), false);
  for (const [n, ended] of first.entries()) {
    queue.leftPlace(ended, 'spare');
    t.equal(queue.take(spare), next[n], `${JSON.stringify(kinds[n])}, once that has left it`);
  }
  add({ handler: 'other' });
  t.equal(queue.mayTake(spare), false, 'a handler without a limit goes like none');
  t.end();
});

t.test('a spare place is beyond the limit of a handler, and does not count for it', (t) => {
  const queue = new WorkQueue(new Map([['kata', 0]]));
  const kata = work({ handler: 'kata' });
  queue.add(kata);
  t.equal(queue.take(now), undefined);
  t.equal(queue.take({ ...now, place: 'spare' }), kata);
  t.end();
});

t.test('a place that is lent is for what somebody waits for, and counts for the limit of a handler', (t) => {
  const lent: Conditions = { paceAllows: true, place: 'lent' };
  const queue = new WorkQueue(new Map([['kata', 1]]));
  const [left, first, second] = [work({ isAwaited: false }), work({ handler: 'kata' }), work({ handler: 'kata' })];
  queue.add(left);
  t.equal(queue.mayTake(lent), false);
  queue.add(first);
  queue.add(second);
  t.equal(queue.take(lent), first);
  t.equal(queue.take(lent), undefined);
  queue.leftPlace(first, 'lent');
  t.equal(queue.take(lent), second);
  t.end();
});

t.test('work that is not said to be quick is not', (t) => {
  const spare: Conditions = { paceAllows: true, place: 'spare' };
  const queue = new WorkQueue(new Map());
  queue.add(work());
  queue.take(spare);
  queue.add(work({ isQuick: false }));
  t.equal(queue.mayTake(spare), false);
  queue.add(work({ isQuick: true }));
  t.equal(queue.mayTake(spare), true);
  t.end();
});

t.test(
  'the order in which it goes is told: by class, what is waited for first, then as it came, and nothing is taken',
  (t) => {
    const queue = new WorkQueue(new Map([['kata', 1]]));
    t.same(queue.inOrder, []);
    const [left, first] = [work({ isAwaited: false }), work()];
    const [kata, second] = [work({ handler: 'kata' }), work()];
    const [leftKata, start] = [work({ handler: 'kata', isAwaited: false }), work({ kind: 'start' })];
    const own = critical();
    for (const each of [left, first, kata, second, leftKata, start, own]) queue.add(each);
    const order = [own, start, first, kata, second, left, leftKata];
    t.strictSame(queue.inOrder, order);
    t.strictSame(queue.inOrder, order);
    t.equal(queue.take(now), own);
    t.strictSame(queue.inOrder, order.slice(1));
    t.end();
  },
);

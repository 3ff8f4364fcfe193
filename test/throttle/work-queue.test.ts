import t from 'tap';
import { type Conditions, passedOverAtMost, type Work, WorkQueue } from '../../src/throttle/work-queue.js';

const work = (what: Partial<Work> = {}): Work => ({ kind: 'podSandbox', run: async () => true, ...what });
const now: Conditions = { paceAllows: true, isOwnPlace: false };
const notPaced: Conditions = { paceAllows: false, isOwnPlace: false };
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
  queue.ended(other);
  t.equal(queue.mayTake(now), false, 'a handler without a limit makes no room');
  for (const each of kata.slice(0, 2)) queue.ended(each);
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

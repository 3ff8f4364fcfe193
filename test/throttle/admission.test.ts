import fc from 'fast-check';
import t from 'tap';
import { fixedAdmission } from '../../src/throttle/admission.js';
import { ManualClock, settle } from '../support/manual-clock.js';

/** Work that ends when the test says so. */
function stage(limit: number) {
  const clock = new ManualClock();
  const admission = fixedAdmission(limit, clock, 1_000);
  const begun: number[] = [];
  const ends: (() => void)[] = [];
  const admit = (n: number) =>
    admission.admit(() => {
      begun.push(n);
      return new Promise<number>((resolve) => {
        ends[n] = () => resolve(n);
      });
    });
  return { clock, admission, begun, ends, admit };
}

t.test(
  'for any limit and order of ends, no more than the limit runs, and all run in the order they came',
  async (t) => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 5 }), fc.array(fc.nat(), { maxLength: 12 }), async (limit, picks) => {
        const { admission, begun, ends, admit } = stage(limit);
        const results = picks.map((_, n) => admit(n));
        await settle();
        const running = new Set(begun);
        for (const pick of picks) {
          if (running.size > limit || admission.inFlight !== running.size) return false;
          const chosen = [...running][pick % running.size];
          if (chosen === undefined) return false;
          running.delete(chosen);
          const before = begun.length;
          ends[chosen]?.();
          await settle();
          for (const next of begun.slice(before)) running.add(next);
        }
        const returned = await Promise.all(results);
        const order = picks.map((_, n) => n);
        return JSON.stringify([returned, begun]) === JSON.stringify([order, order]) && admission.queued === 0;
      }),
      { numRuns: 100 },
    );
    t.pass('held for every run');
  },
);

t.test('work that fails gives up its place and tells its caller', async (t) => {
  const { admission, begun, admit } = stage(1);
  await t.rejects(
    admission.admit(() => Promise.reject(new Error('no'))),
    { message: 'no' },
  );
  void admit(0);
  await settle();
  t.same(begun, [0]);
});

t.test('work that hangs keeps nobody back for longer than its place is kept, and its result still comes', async (t) => {
  const { clock, begun, ends, admit } = stage(1);
  const hanging = admit(0);
  void admit(1);
  await clock.advance(999);
  t.same(begun, [0]);
  await clock.advance(1);
  t.same(begun, [0, 1]);
  ends[0]?.();
  t.equal(await hanging, 0);
});

t.test('work that ends leaves no timer behind', async (t) => {
  const { clock, ends, admit } = stage(1);
  const asked = admit(0);
  await settle();
  ends[0]?.();
  await asked;
  await settle();
  t.equal(clock.pending, 0);
});

t.test('work that is withdrawn does not run, and what is behind it moves up', async (t) => {
  const { admission, begun, ends, admit } = stage(1);
  void admit(0);
  await settle();
  const withdrawn = () => Promise.reject(new Error('it ran'));
  for (let n = 0; n < 100; n += 1) {
    void admission.admit(withdrawn);
    admission.withdraw(withdrawn);
  }
  void admit(1);
  void admit(2);
  t.equal(admission.queued, 2);
  ends[0]?.();
  await settle();
  t.same(begun, [0, 1]);
  admission.withdraw(withdrawn);
  ends[1]?.();
  await settle();
  t.same(begun, [0, 1, 2]);
  t.equal(admission.queued, 0);
});

import fc from 'fast-check';
import t from 'tap';
import { ArrivalOrder } from '../../src/throttle/arrival-order.js';

function of(...numbers: readonly number[]): ArrivalOrder<string> {
  const order = new ArrivalOrder<string>();
  for (const number of numbers) order.add({ number, item: `work ${number}` });
  return order;
}

/** What is in it, first to last. */
function emptied(order: ArrivalOrder<string>): number[] {
  const numbers: number[] = [];
  for (let first = order.first; first !== undefined; first = order.first) {
    numbers.push(first.number);
    order.delete(first.number);
  }
  return numbers;
}

t.test('nothing is first where nothing is', (t) => {
  t.equal(of().first, undefined);
  t.equal(of().size, 0);
  t.end();
});

t.test('the lowest number is first, whenever it is put in, and comes with what has it', (t) => {
  t.same(of(4, 2, 7).first, { number: 2, item: 'work 2' });
  t.same(emptied(of(4, 2, 7, 0, 5)), [0, 2, 4, 5, 7]);
  t.end();
});

t.test('taking out what is not in changes nothing', (t) => {
  const order = of(1, 3, 5);
  for (const number of [0, 2, 4, 6]) order.delete(number);
  t.equal(order.size, 3);
  t.same(emptied(order), [1, 3, 5]);
  order.delete(1);
  t.equal(order.size, 0);
  t.end();
});

t.test('for any order of putting in and taking out, what is left is in order', (t) => {
  const steps = fc.uniqueArray(fc.nat(200), { maxLength: 60 }).chain((numbers) =>
    fc.record({
      numbers: fc.constant(numbers),
      gone: fc.subarray(numbers),
      again: fc.subarray(numbers),
    }),
  );
  fc.assert(
    fc.property(steps, ({ numbers, gone, again }) => {
      const order = of(...numbers);
      for (const number of gone) order.delete(number);
      const back = again.filter((number) => gone.includes(number));
      for (const number of back) order.add({ number, item: '' });
      const left = numbers.filter((number) => !gone.includes(number) || back.includes(number));
      const isCounted = order.size === left.length;
      return isCounted && JSON.stringify(emptied(order)) === JSON.stringify(left.toSorted((a, b) => a - b));
    }),
  );
  t.pass('held for every run');
  t.end();
});

t.test('all of it comes first to last, and stays', (t) => {
  const order = of(4, 2, 7);
  t.same(
    [...order],
    [2, 4, 7].map((number) => ({ number, item: `work ${number}` })),
  );
  t.equal(order.size, 3);
  t.end();
});

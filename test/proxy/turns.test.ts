import t from 'tap';
import { Turns } from '../../src/proxy/turns.js';
import { settle } from '../support/manual-clock.js';

/** How many of `asked` have begun after each turn of the event loop. */
async function begunByTurn(asked: number): Promise<{ order: number[]; begun: number[] }> {
  const turns = new Turns();
  const order: number[] = [];
  for (let n = 0; n < asked; n++) void turns.next().then(() => order.push(n));
  await Promise.resolve();
  const begun = [order.length];
  for (let turn = 0; turn < asked; turn++) {
    await settle();
    begun.push(order.length);
  }
  return { order, begun };
}

t.test('what comes alone begins at once', async (t) => {
  t.equal((await begunByTurn(1)).begun[0], 1);
});

t.test('what comes at once begins in order, no more than two in a turn', async (t) => {
  const { order, begun } = await begunByTurn(9);
  t.same(order, [0, 1, 2, 3, 4, 5, 6, 7, 8]);
  t.same(begun.slice(0, 5), [2, 4, 6, 8, 9]);
});

t.test('what comes later does not overtake', async (t) => {
  const turns = new Turns();
  const order: string[] = [];
  const ask = (name: string) => void turns.next().then(() => order.push(name));
  for (const name of ['a', 'b', 'c', 'd', 'e']) ask(name);
  await settle();
  ask('f');
  await settle();
  await settle();
  t.same(order, ['a', 'b', 'c', 'd', 'e', 'f']);
});

t.test(
  'what comes alone after a storm begins at once, and in a turn that lets others begin as many fewer do',
  async (t) => {
    const turns = new Turns();
    const order: string[] = [];
    const ask = (name: string) => void turns.next().then(() => order.push(name));
    for (const name of ['a', 'b', 'c']) ask(name);
    await settle();
    t.same(order, ['a', 'b', 'c']);
    ask('d');
    ask('e');
    await Promise.resolve();
    t.same(order, ['a', 'b', 'c', 'd'], 'with c two have begun in this turn');
    await settle();
    await settle();
    await settle();
    ask('f');
    await Promise.resolve();
    t.same(order, ['a', 'b', 'c', 'd', 'e', 'f']);
  },
);

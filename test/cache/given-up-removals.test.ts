import t from 'tap';
import { GivenUpRemovals } from '../../src/cache/given-up-removals.js';
import { container, podSandbox } from './store-rig.js';

const removal = (id: string, { fingerprint } = container()) => ({
  identity: fingerprint.identity,
  id,
  sinceMs: 5,
  error: 'busy',
});

t.test('the last hundred are kept, the first of them first', (t) => {
  const removals = new GivenUpRemovals();
  for (let n = 0; n < 103; n += 1) removals.add(removal(`c${n}.`));
  t.equal(removals.all.length, 100);
  t.same(removals.all[0], removal('c3.'));
  t.same(removals.all[99], removal('c102.'));
  t.end();
});

t.test('what is removed after all, by its id or a prefix, and what is forgotten is kept no more', (t) => {
  const removals = new GivenUpRemovals();
  removals.ended('a');
  for (const id of ['abc', 'abd', 'b']) removals.add(removal(id));
  removals.add(removal('s', podSandbox()));
  removals.ended('abc');
  removals.ended('x');
  t.same(
    removals.all.map(({ id }) => id),
    ['abd', 'b', 's'],
  );
  removals.ended('ab');
  t.same(
    removals.all.map(({ id }) => id),
    ['b', 's'],
  );
  removals.forget(({ kind }) => kind === 'container');
  t.same(
    removals.all.map(({ id }) => id),
    ['s'],
  );
  t.end();
});

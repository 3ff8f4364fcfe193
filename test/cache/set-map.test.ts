import t from 'tap';
import { SetMap } from '../../src/cache/set-map.js';

t.test('values are found by their key, each once', async (t) => {
  const map = new SetMap<string>();
  map.add('a', 'x');
  map.add('a', 'y');
  map.add('a', 'y');
  map.add('b', 'x');
  t.same([...(map.get('a') ?? [])], ['x', 'y']);
  t.equal(map.get('c'), undefined);
  t.equal(map.size, 2);
  t.same(
    [...map].map(([key, values]) => [key, ...values]),
    [
      ['a', 'x', 'y'],
      ['b', 'x'],
    ],
  );
});

t.test('a key goes with its last value, and not before', async (t) => {
  const map = new SetMap<string>();
  map.add('a', 'x');
  map.add('a', 'y');
  map.delete('a', 'z');
  map.delete('b', 'x');
  t.same([...(map.get('a') ?? [])], ['x', 'y'], 'what is not there cannot go');
  map.delete('a', 'x');
  t.same([...(map.get('a') ?? [])], ['y']);
  map.delete('a', 'y');
  t.equal(map.get('a'), undefined);
  t.equal(map.size, 0);
});

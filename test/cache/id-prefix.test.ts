import t from 'tap';
import { onlyMatch } from '../../src/cache/id-prefix.js';

const long = 'a'.repeat(63);

t.test('the only id that begins with a prefix is what it names', async (t) => {
  t.equal(onlyMatch('ab', [['abc', 1]], [['xab', 2]]), 1);
  t.equal(onlyMatch('x', [['abc', 1]], [['xab', 2]]), 2);
  t.equal(onlyMatch(long, [[`${long}b`, 1]]), 1, 'one digit is missing');
});

t.test('several, none and the empty one name nothing', async (t) => {
  t.equal(onlyMatch('ab', [['abc', 1]], [['abd', 2]]), undefined, 'in two places');
  t.equal(
    onlyMatch('ab', [
      ['abc', 1],
      ['abd', 2],
    ]),
    undefined,
    'in one place',
  );
  t.equal(onlyMatch('b', [['abc', 1]]), undefined, 'the middle of an id is no prefix');
  t.equal(onlyMatch('', [['abc', 1]]), undefined);
});

t.test('what has the length of an id is searched for among nothing', async (t) => {
  const looked: string[] = [];
  function* all(): Iterable<[string, number]> {
    looked.push('looked');
    yield [`${long}ab`, 1];
  }
  t.equal(onlyMatch(`${long}a`, all()), undefined);
  t.same(looked, []);
});

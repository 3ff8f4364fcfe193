import t from 'tap';
import { fixedLimit } from '../../src/throttle/concurrency-limit.js';

t.test('a fixed limit stays what it is, however work ends', (t) => {
  const limit = fixedLimit(3);
  for (const succeeded of [true, false]) limit.begin({ kind: 'start' }).ended(succeeded);
  t.equal(limit.value, 3);
  t.equal(limit.lendable, 0, 'nothing is lent beyond it');
  t.equal(limit.isShort, false);
  limit.close();
  t.end();
});

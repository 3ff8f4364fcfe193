import { existsSync, readdirSync } from 'node:fs';
import t from 'tap';
import { breaks } from '../../mutate/breaks.js';
import { readEquivalents } from '../../mutate/equivalent.js';
import { pieces, sourcesOf } from '../../mutate/pieces.js';

t.test('each file of src/cache, src/proxy and src/throttle is in one piece', (t) => {
  const all = ['src/cache', 'src/proxy', 'src/throttle'].flatMap((folder) =>
    readdirSync(folder)
      .filter((file) => file.endsWith('.ts'))
      .map((file) => `${folder}/${file}`),
  );
  t.same(pieces.flatMap(sourcesOf).sort(), all.sort());
  t.end();
});

t.test('tests and files that are named are there', (t) => {
  const named = [
    ...pieces.flatMap(({ tests }) => tests),
    ...breaks.flatMap(({ change }) => (change === undefined ? [] : [change.file, ...change.tests])),
    ...readEquivalents().map(({ file }) => file),
  ];
  t.same(
    named.filter((file) => !existsSync(file)),
    [],
  );
  t.end();
});

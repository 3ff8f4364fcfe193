import { existsSync, readdirSync, readFileSync } from 'node:fs';
import t from 'tap';
import { breaks } from '../../mutate/breaks.js';
import { readEquivalents } from '../../mutate/equivalent.js';
import { pieces, sourcesOf } from '../../mutate/pieces.js';

t.test('each file of src/cache, src/proxy and src/throttle is in one piece', (t) => {
  const folders = ['src/cache', 'src/proxy', 'src/throttle'];
  const all = folders.flatMap((folder) =>
    readdirSync(folder)
      .filter((file) => file.endsWith('.ts'))
      .map((file) => `${folder}/${file}`),
  );
  const named = pieces.filter(({ folder }) => folders.includes(folder)).flatMap(sourcesOf);
  t.same(named.sort(), all.sort());
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

t.test('what is to be broken by hand stands in its file, once', (t) => {
  const missed = breaks.filter(
    ({ change }) => change && readFileSync(change.file, 'utf8').split(change.text).length !== 2,
  );
  t.same(
    missed.map(({ claim }) => claim),
    [],
  );
  t.end();
});

t.test('a line that a reason is written for stands in its file', (t) => {
  const linesOf = (file: string) =>
    readFileSync(file, 'utf8')
      .split('\n')
      .map((line) => line.trim());
  t.same(
    readEquivalents().filter(({ file, line }) => !linesOf(file).includes(line)),
    [],
  );
  t.end();
});

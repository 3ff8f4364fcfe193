import { readFileSync } from 'node:fs';
import t from 'tap';
import { optionsMarkdown, optionsPage } from '../../scripts/options-reference.js';
import { options } from '../../src/config/options.js';

t.test('the page of options says what the program says; `npm run docs` writes it', async (t) => {
  t.equal(readFileSync(optionsPage, 'utf8'), await optionsMarkdown());
});

t.test('every option of serve is explained, with its variable', async (t) => {
  const page = await optionsMarkdown();
  for (const { name } of Object.values(options)) {
    t.match(page, `#### --${name}\n`);
    t.match(page, `\`HOLDFAST_${name.toUpperCase().replaceAll('-', '_')}\``);
  }
  for (const name of ['serve', 'demo', 'bench', 'completion']) t.match(page, `\n## holdfast ${name}\n`);
});

t.test('the page is the same on every machine', async (t) => {
  t.notMatch(await optionsMarkdown(), /, here \d/);
});

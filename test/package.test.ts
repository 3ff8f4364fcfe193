import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import t from 'tap';

const root = fileURLToPath(new URL('../', import.meta.url));
const npm = (...args: string[]) => JSON.parse(execFileSync('npm', args, { cwd: root, encoding: 'utf8' }));

t.test('what is packed has all that the program and its guide name, and nothing else', async (t) => {
  const [{ files }]: [{ files: { path: string }[] }] = npm('pack', '--dry-run', '--json', '--ignore-scripts');
  const packed = files.map(({ path }) => path);
  const examples = readdirSync(`${root}examples`, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !entry.name.endsWith('.png'))
    .map((entry) => `${entry.parentPath}/${entry.name}`.slice(root.length));
  t.ok(examples.length > 10);
  const needed = ['bin/holdfast.js', 'dist/cli.js', 'dist/shipped.js', 'proto/cri.json', 'LICENSE', 'README.md'];
  for (const file of [...needed, ...examples]) t.ok(packed.includes(file), file);
  t.strictSame(
    packed.filter((file) => !/^(bin|dist|examples|proto)\/|^(LICENSE|README\.md|package\.json)$/.test(file)),
    [],
  );
  t.strictSame(
    packed.filter((file) => file.endsWith('.png')),
    [],
  );
});

t.test('packing makes the bundle first', async (t) => {
  const { scripts }: { scripts: Record<string, string> } = JSON.parse(readFileSync(`${root}package.json`, 'utf8'));
  t.match(scripts.prepack, /\bbundle\b/);
});

t.test('the bill of materials names every package the program needs, with its licence', async (t) => {
  const manifest: { dependencies: Record<string, string> } = JSON.parse(readFileSync(`${root}package.json`, 'utf8'));
  const { packages }: { packages: { name: string; versionInfo: string; licenseDeclared: string }[] } = npm(
    'run',
    '--silent',
    'sbom',
  );
  for (const [name, version] of Object.entries(manifest.dependencies)) {
    const found = packages.find((one) => one.name === name && one.versionInfo === version);
    t.match(found?.licenseDeclared, /\w/, name);
  }
});

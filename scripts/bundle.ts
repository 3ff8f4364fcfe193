/**
 * `npm run bundle`: the built program as one file, dist/holdfast.mjs, beside which only Node is needed, and the licences of the
 * packages in it, dist/holdfast.LICENSES.txt. The same sources give the same bytes.
 *
 * Four things differ from dist/:
 * - shipped.js, which reads the package's files, is a module that holds their texts.
 * - Node's own modules are fetched where they are first used. An `import` of one would stand at the head of the file, and from Node 22
 *   on that of node:http reads all its exports, WebSocket among them, and so loads Node's HTTP client (undici): a third of the start.
 * - Of OpenTelemetry's packages there is what is used, and it is run only with --otlp.
 * - White space and comments are gone. Names stay: stack traces and CPU profiles are read by people.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { builtinModules } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { build, type Plugin } from 'esbuild';

const root = fileURLToPath(new URL('../', import.meta.url));
const output = path.resolve(process.argv[2] ?? path.join(root, 'dist'));

/** Texts that the program reads (see src/shipped.ts), from the root of the package. */
const shippedPaths = [
  'package.json',
  'proto/cri.json',
  'examples/holdfast.yaml',
  'examples/scenarios',
  'examples/systemd',
];
const textFile = /\.(json|ya?ml|service|socket|timer|md)$/;

/** A getter for each file: its text is made when it is read. */
function shippedModule(): string {
  const getters = shippedPaths
    .flatMap(filesIn)
    .map(
      (file) =>
        `get ${JSON.stringify(file)}() { return ${JSON.stringify(readFileSync(path.join(root, file), 'utf8'))}; }`,
    );
  return `import { fileURLToPath } from 'node:url';
    const files = { ${getters.join(',\n')} };
    export const executable = fileURLToPath(import.meta.url);
    export function shippedText(file) {
      if (!Object.hasOwn(files, file)) throw new Error('no ' + file + ' in the bundle');
      return files[file];
    }
    export function shippedFiles(folder) {
      return Object.keys(files).filter((file) => file.startsWith(folder + '/')).map((file) => file.slice(folder.length + 1)).sort();
    }`;
}

function filesIn(relative: string): string[] {
  if (path.extname(relative) !== '') return textFile.test(relative) ? [relative] : [];
  return readdirSync(path.join(root, relative))
    .sort()
    .flatMap((name) => filesIn(`${relative}/${name}`));
}

const shipped: Plugin = {
  name: 'shipped texts',
  setup({ onLoad }) {
    const contents = shippedModule();
    onLoad({ filter: /[\\/]dist[\\/]shipped\.js$/ }, () => ({ contents, loader: 'js', resolveDir: root }));
  },
};

const builtins: Plugin = {
  name: "Node's own modules",
  setup({ onResolve, onLoad }) {
    const names = builtinModules.map((name) => name.replaceAll('/', '\\/')).join('|');
    onResolve({ filter: new RegExp(`^(node:.*|${names})$`) }, ({ path: name }) => ({
      path: name.replace(/^(node:)?/, 'node:'),
      namespace: 'builtin',
    }));
    onLoad({ filter: /.*/, namespace: 'builtin' }, ({ path: name }) => ({
      contents: `module.exports = process.getBuiltinModule(${JSON.stringify(name)});`,
    }));
  },
};

/** Of their CommonJS files all would come along, of these what is used: a fifth. A program that does not trace still keeps their text. */
const telemetry: Plugin = {
  name: 'ECMAScript modules of OpenTelemetry',
  setup({ onResolve, resolve }) {
    onResolve({ filter: /^@opentelemetry\// }, async ({ path: name, pluginData, ...from }) => {
      if (pluginData === telemetry) return undefined;
      const found = await resolve(name, { ...from, pluginData: telemetry });
      const module = found.path.replace('/build/src/', '/build/esm/');
      return existsSync(module) ? { ...found, path: module } : found;
    });
  },
};

const { metafile, outputFiles } = await build({
  absWorkingDir: root,
  entryPoints: ['bin/holdfast.js'],
  bundle: true,
  platform: 'node',
  format: 'esm',
  target: 'node20.19',
  minifyWhitespace: true,
  minifySyntax: true,
  legalComments: 'none',
  metafile: true,
  write: false,
  plugins: [shipped, builtins, telemetry],
  logLevel: 'warning',
});
// With one character beyond ASCII in it V8 would keep the file at two bytes each. What esbuild leaves is in templates.
const [{ text } = { text: '' }] = outputFiles;
const ascii = text.replace(/[^\0-\x7f]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
mkdirSync(output, { recursive: true });
writeFileSync(path.join(output, 'holdfast.mjs'), ascii, { mode: 0o755 });
writeFileSync(path.join(output, 'holdfast.LICENSES.txt'), licences(Object.keys(metafile.inputs)));

/** @param inputs Files from `root`. */
function licences(inputs: readonly string[]): string {
  const folders = inputs.map((file) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/.exec(file)?.[0]);
  const packages = [...new Set(folders)].filter((folder) => folder !== undefined).sort();
  return packages.map((folder) => licence(path.join(root, folder))).join(`\n${'-'.repeat(80)}\n\n`);
}

/** @throws {Error} The package does not say under which licence it comes. */
function licence(folder: string): string {
  const manifest: { name: string; version: string; license?: string } = JSON.parse(
    readFileSync(path.join(folder, 'package.json'), 'utf8'),
  );
  const texts = readdirSync(folder)
    .filter((name) => /^(licen[cs]e|notice|copying)/i.test(name) && existsSync(path.join(folder, name)))
    .sort()
    .map((name) => readFileSync(path.join(folder, name), 'utf8').trim());
  if (texts.length === 0 && manifest.license === undefined) throw new Error(`${manifest.name} has no licence`);
  return [`${manifest.name} ${manifest.version}: ${manifest.license ?? 'see below'}`, ...texts, ''].join('\n\n');
}

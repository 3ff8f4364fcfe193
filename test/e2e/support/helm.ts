/** Renders the chart in examples/helm by the program whose sources are in test/e2e/helm. */
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import { fileURLToPath } from 'node:url';
import { buildGo } from './grpc-go.js';
import { missingPrograms } from './programs.js';

const sources = fileURLToPath(new URL('../helm', import.meta.url));
export const chart = fileURLToPath(new URL('../../../examples/helm/holdfast', import.meta.url));

/** Why the program cannot be made here. */
export function missingHelm(): string | undefined {
  const absent = missingPrograms('go');
  if (absent !== undefined) return absent;
  const packages = {
    'github.com/Masterminds/sprig': 'golang-github-masterminds-sprig-dev',
    'sigs.k8s.io/yaml': 'golang-k8s-sigs-yaml-dev',
  };
  const missing = Object.entries(packages).find(([folder]) => !fs.existsSync(`/usr/share/gocode/src/${folder}`));
  return missing && `needs ${missing[1]}`;
}

/** Texts by the name of their template. */
export type Rendered = Readonly<Record<string, string>>;
/** @throws {Error} What the chart complains of. */
export type Render = (values?: object) => Promise<Rendered>;

/** @param directory Where the program is put. @returns A release `holdfast` in a namespace of that name, with these values over the chart's. */
export async function helm(directory: string): Promise<Render> {
  const program = `${directory}/helm`;
  await buildGo(sources, program);
  return (values = {}) =>
    new Promise((resolve, reject) => {
      const child = execFile(
        program,
        [chart, 'holdfast', 'holdfast'],
        { maxBuffer: 16_777_216 },
        (error, stdout, stderr) => {
          if (error === null) resolve(JSON.parse(stdout));
          else reject(new Error(stderr.trim()));
        },
      );
      child.stdin?.end(JSON.stringify(values));
    });
}

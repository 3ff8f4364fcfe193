/**
 * What holdfast.service gives the program that it starts: arguments and variables, each with the file that it stands in, drop-ins
 * included. Read from the files, so that it is what the next start would give.
 */

import { configOption, environmentName, options } from '../config/options.js';
import { plainArguments } from '../config/plain-arguments.js';
import type { Machine } from './machine.js';
import { paths } from './paths.js';
import { commandLine, environment, unitSettings } from './systemd-unit.js';

export interface Variable {
  readonly name: string;
  readonly value: string;
  readonly file: string;
  /** Whether holdfast-bypass.service reads that file, too. */
  readonly isOfFile: boolean;
}

export interface ServiceStart {
  /** What `serve` is given, by name without dashes. */
  readonly argv: Readonly<Record<string, string>>;
  /** All of them, also those that are none of Holdfast's. */
  readonly variables: readonly Variable[];
}

const usual: ServiceStart = { argv: { [configOption.name]: paths.config }, variables: [] };

/** @returns What the shipped unit gives, where there is no unit or its command line is more than options with values. */
export async function serviceStart({ files, run }: Pick<Machine, 'files' | 'run'>): Promise<ServiceStart> {
  const { code, stdout } = await run('systemctl', ['cat', 'holdfast.service']);
  if (code !== 0) return usual;
  const settings = unitSettings(stdout);
  const read = (file: string) => files.text(file);
  const words = commandLine(settings, read).map(({ text }) => text);
  const known = [...Object.values(options), configOption].map(({ name }) => name);
  const at = words.indexOf('serve');
  const argv = at < 0 ? undefined : plainArguments(words.slice(at + 1), known);
  const variables = [...environment(settings, read)].map(([name, { text, origin }]) => {
    return { name, value: text, file: origin.file, isOfFile: origin.kind === 'environment-file' };
  });
  return { argv: argv ?? usual.argv, variables };
}

/** @returns By name; an empty one counts as not set. */
export function valuesOf({ variables }: ServiceStart): Readonly<Record<string, string>> {
  return Object.fromEntries(variables.map(({ name, value }) => [name, value]));
}

/** @returns The variable of an option, if it is set. */
export function variableOf({ variables }: ServiceStart, option: string): Variable | undefined {
  return variables.find(({ name, value }) => name === environmentName(option) && value !== '');
}

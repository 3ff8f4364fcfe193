/** What `install`, `uninstall` and `check` have in common on the command line. */
import { accessSync, constants } from 'node:fs';
import type { Options } from 'yargs';
import { ConfigError } from '../config/config-error.js';
import { directory, endpoint, type Kind } from '../config/kinds.js';
import { Refusal } from '../install/refusal.js';

export type Given = Readonly<Record<string, unknown>>;

export const nodeOptions = {
  root: {
    describe:
      "Root of the node's files, where they are not this process's own: in a container, where it has them mounted",
    defaultDescription: '/',
  },
  runtime: { describe: "The runtime's unix socket", defaultDescription: 'what the kubelet uses' },
  'kubelet-unit': { describe: 'The unit that runs the kubelet', defaultDescription: 'kubelet.service, or that of k3s' },
} satisfies Record<string, Options>;

/** Options that take a text each. */
export function texts<T extends Record<string, Options>>(options: T): Record<keyof T, Options> {
  return Object.fromEntries(
    Object.entries(options).map(([name, option]) => [name, { type: 'string', requiresArg: true, ...option }]),
  ) as Record<keyof T, Options>;
}

/** @throws {ConfigError} It is refused. */
export function given<T>(argv: Given, name: string, kind: Kind<T>): T | undefined {
  const value = argv[name];
  if (value === undefined) return undefined;
  const parsed = typeof value === 'string' ? kind.parse(value) : undefined;
  if (parsed !== undefined) return parsed;
  throw new ConfigError(`--${name}: ${JSON.stringify(value)} is not allowed; give ${kind.allowed}`);
}

export const anyFile: Kind<string> = { allowed: 'a file', parse: (text) => (text === '' ? undefined : text) };

const anyUnit: Kind<string> = {
  allowed: "a service's name, like kubelet.service",
  parse: (text) => (/^[\w:.\\@-]+\.service$/.test(text) ? text : undefined),
};

export function givenNode(argv: Given) {
  return {
    root: given(argv, 'root', directory) ?? '/',
    runtime: given(argv, 'runtime', endpoint),
    kubeletUnit: given(argv, 'kubelet-unit', anyUnit),
  };
}

/** A refusal as one error that says what to do, too. */
export function withRemedy(error: unknown): unknown {
  return error instanceof Refusal ? new Error(`${error.message}; ${error.remedy}`, { cause: error }) : error;
}

/** @throws {ConfigError} Before anything is begun that could not be ended. */
export function mustWrite(root: string): void {
  const etc = root === '/' ? '/etc' : `${root}/etc`;
  try {
    accessSync(etc, constants.W_OK);
  } catch (cause) {
    throw new ConfigError(`${etc} cannot be written: be root, or see with --dry-run what would be done`, { cause });
  }
}

/** The last line of what was done. */
export function summary({ changed, dryRun }: { changed: number; dryRun: boolean }, done: string): string {
  if (changed === 0) return 'nothing had to be done\n';
  return dryRun ? 'nothing was done: this was a dry run\n' : `${done}\n`;
}

/** The command line: which command is meant, what goes wrong as one line on stderr, and the exit code. */
import type { CommandModule } from 'yargs';
import { type Environment, serveCommand } from './commands/serve.js';
import { ConfigError } from './config/config-error.js';
import { configOption, options } from './config/options.js';
import { plainArguments } from './config/plain-arguments.js';
import { version } from './config/version.js';

/** What the command line needs of the process it runs in. */
export interface Io {
  readonly env: Environment;
  readonly stdout: { write(text: string): unknown };
  readonly stderr: { write(text: string): unknown };
}

/** Options or arguments that yargs does not understand. */
class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** A command whose module, and all that it needs, is loaded when it is meant: what serves a node shall be small and soon ready. */
function loadedLater(
  command: string,
  describe: string,
  load: () => Promise<Pick<CommandModule, 'builder' | 'handler'>>,
): CommandModule {
  return {
    command,
    describe,
    async builder(yargs) {
      const { builder } = await load();
      return typeof builder === 'function' ? builder(yargs) : yargs;
    },
    handler: async (argv) => (await load()).handler(argv),
  };
}

const demoCommand = loadedLater(
  'demo',
  'Show on a simulated slow node what Holdfast does; takes about ten seconds',
  async () => (await import('./commands/demo.js')).demoCommand,
);
const benchCommand = loadedLater(
  'bench',
  'Measure what Holdfast would do for a node, on a simulated or a real runtime',
  async () => (await import('./commands/bench.js')).benchCommand,
);

/**
 * Runs one command to its end.
 *
 * Without a command it shows its help and fails with 2: a unit file that lost its `serve` must not look as if it had worked.
 *
 * @param args What comes after the program's name.
 * @returns The exit code: 0 done, 1 failed, 2 not understood (to be tried again only once somebody has changed something).
 */
export async function main(args: readonly string[], io: Io = process): Promise<number> {
  const plain = plainServe(args);
  if (plain !== undefined) return exitCodeOf(() => serveCommand(io.env).handler({ ...plain, _: [], $0: '' }), io);
  let output = '';
  const { default: createYargs } = await import('yargs');
  const yargs = createYargs()
    .scriptName('holdfast')
    .usage('$0 <command> [options]')
    .command(serveCommand(io.env))
    .command(demoCommand)
    .command(benchCommand)
    .version(version)
    .help()
    .strict()
    .demandCommand(1, 'a command is missing: serve, demo or bench')
    .wrap(100)
    // Other languages would translate half of the messages.
    .detectLocale(false)
    .updateStrings({
      'Not enough arguments following: %s': '--%s: a value is missing',
      'Unknown argument: %s': { one: 'unknown option or argument: %s', other: 'unknown options or arguments: %s' },
    } as unknown as Record<string, string>)
    .parserConfiguration({ 'camel-case-expansion': false, 'dot-notation': false, 'short-option-groups': false })
    .exitProcess(false)
    .fail((said: string | null, error: unknown) => {
      throw said === null ? error : new UsageError(said);
    });
  return exitCodeOf(async () => {
    if (args.length === 0) {
      io.stderr.write(`${await yargs.getHelp()}\n`);
      return 2;
    }
    await yargs.parseAsync([...args], {}, (_error, _argv, text) => {
      output = text;
    });
    if (output !== '') io.stdout.write(`${output}\n`);
  }, io);
}

/** `serve` with options only: yargs need not be loaded. */
function plainServe([command, ...args]: readonly string[]): Readonly<Record<string, string>> | undefined {
  const known = [...Object.values(options), configOption].map(({ name }) => name);
  return command === 'serve' ? plainArguments(args, known) : undefined;
}

/** @param run Gives an exit code, or leaves it to `process.exitCode`. */
async function exitCodeOf(run: () => unknown, { stderr }: Io): Promise<number> {
  try {
    return Number((await run()) ?? process.exitCode ?? 0);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    stderr.write(`holdfast: ${message.replace(/\s*\n\s*/g, ' ')}\n`);
    return error instanceof ConfigError || error instanceof UsageError ? 2 : 1;
  }
}

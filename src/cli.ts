/** The command line: which command is meant, what goes wrong as one line on stderr, and the exit code. */
import type { CommandModule } from 'yargs';
import { type Environment, serveCommand } from './commands/serve.js';
import { nameOf } from './commands/surface.js';
import { explain, MissingCommandError, UnknownWordsError, UsageError } from './commands/usage-error.js';
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

/** In the order in which the help shows them. */
export function commandsFor({ env, stdout }: Pick<Io, 'env' | 'stdout'>): readonly CommandModule[] {
  const commands: CommandModule[] = [
    serveCommand(env, stdout),
    loadedLater(
      'install',
      'Put Holdfast on this node and the kubelet behind it; it comes back by itself if it does not do well there',
      async () => (await import('./commands/install.js')).installCommand(stdout),
    ),
    loadedLater('uninstall', 'Send the kubelet back to the runtime, and take Holdfast off this node', async () =>
      (await import('./commands/uninstall.js')).uninstallCommand(stdout),
    ),
    loadedLater('check', 'Say of this node what is well, what is not, and what to do', async () =>
      (await import('./commands/check.js')).checkCommand(stdout),
    ),
    loadedLater(
      'status [pod]',
      'Say why a pod is stuck: what is queued, running, held or failing on this node',
      async () => (await import('./commands/status.js')).statusCommand,
    ),
    loadedLater(
      'forget <pod>',
      'Have what is remembered of a pod forgotten, as far as that is safe',
      async () => (await import('./commands/forget.js')).forgetCommand,
    ),
    loadedLater(
      'sidecar',
      'Serve metrics and health over TCP, from the admin socket',
      async () => (await import('./commands/sidecar.js')).sidecarCommand,
    ),
    loadedLater(
      'demo',
      'Show on a simulated slow node what Holdfast does; takes about ten seconds',
      async () => (await import('./commands/demo.js')).demoCommand,
    ),
    loadedLater(
      'bench',
      'Measure what Holdfast would do for a node, on a simulated or a real runtime',
      async () => (await import('./commands/bench.js')).benchCommand,
    ),
    loadedLater('completion [shell]', 'Print what makes bash or zsh complete commands, options and values', async () =>
      (await import('./commands/completion.js')).completionCommand(commands, { env, stdout }),
    ),
  ];
  return commands;
}

/** What people type who do not know that it is an option. */
const wordsForOptions: Readonly<Record<string, string>> = { help: '--help', version: '--version' };

/** What yargs is told to say, to be known again; the first stands in front of the words it does not know. */
const unknownWords = 'unknown words: ';
const missingCommand = 'missing command';
const missingArgument = 'missing argument: ';

/**
 * Runs one command to its end.
 *
 * Without a command it shows its help and fails with 2: a unit file that lost its `serve` must not look as if it had worked.
 *
 * @param args What comes after the program's name.
 * @returns The exit code: 0 done, 1 failed, 2 not understood (to be tried again only once somebody has changed something).
 */
export async function main(args: readonly string[], io: Io = process): Promise<number> {
  const commands = commandsFor(io);
  try {
    const plain = plainServe(args);
    if (plain === undefined) return await runWithYargs(args, commands, io);
    await serveCommand(io.env).handler({ ...plain, _: [], $0: '' });
    return Number(process.exitCode ?? 0);
  } catch (error) {
    const isExplained = error instanceof UnknownWordsError || error instanceof MissingCommandError;
    const message = isExplained ? await explain(error, args, commands) : text(error);
    io.stderr.write(`holdfast: ${message.replace(/\s*\n\s*/g, ' ')}\n`);
    return error instanceof ConfigError || error instanceof UsageError ? 2 : 1;
  }
}

/** `serve` with options only: yargs need not be loaded. */
function plainServe([command, ...args]: readonly string[]): Readonly<Record<string, string>> | undefined {
  const known = [...Object.values(options), configOption].map(({ name }) => name);
  return command === 'serve' ? plainArguments(args, known) : undefined;
}

async function runWithYargs(args: readonly string[], commands: readonly CommandModule[], io: Io): Promise<number> {
  const names = commands.map(({ command }) => nameOf(String(command)));
  let output = '';
  const { default: createYargs } = await import('yargs');
  const yargs = createYargs()
    .scriptName('holdfast')
    .usage('$0 <command> [options]')
    .version(version)
    .help()
    .strict()
    .demandCommand(1, missingCommand)
    .wrap(100)
    // Other languages would translate half of the messages.
    .detectLocale(false)
    .updateStrings({
      'Not enough arguments following: %s': '--%s: a value is missing',
      'Unknown argument: %s': { one: `${unknownWords}%s`, other: `${unknownWords}%s` },
      'Not enough non-option arguments: got %s, need at least %s': {
        one: `${missingArgument}%s of %s`,
        other: `${missingArgument}%s of %s`,
      },
    } as unknown as Record<string, string>)
    .parserConfiguration({ 'camel-case-expansion': false, 'dot-notation': false, 'short-option-groups': false })
    .exitProcess(false)
    .fail((said: string | null, error: unknown) => {
      if (said === null) throw error;
      if (said === missingCommand) throw new MissingCommandError(`a command is missing: ${names.join(', ')}`);
      if (said.startsWith(missingArgument)) throw new UsageError(`an argument is missing: ${usageOf(args, commands)}`);
      throw said.startsWith(unknownWords)
        ? new UnknownWordsError(said.slice(unknownWords.length).split(', '))
        : new UsageError(said);
    });
  for (const command of commands) yargs.command(command);
  // No alias: the help would make room for it in front of every option.
  const [first = '', ...others] = args.map((arg) => (arg === '-h' ? '--help' : arg));
  if (args.length === 0) {
    io.stderr.write(`${await yargs.getHelp()}\n`);
    return 2;
  }
  const option = Object.hasOwn(wordsForOptions, first) ? wordsForOptions[first] : undefined;
  await yargs.parseAsync(option === undefined ? [first, ...others] : [...others, option], {}, (_error, _argv, text) => {
    output = text;
  });
  if (output !== '') io.stdout.write(`${output}\n`);
  return Number(process.exitCode ?? 0);
}

function usageOf(args: readonly string[], commands: readonly CommandModule[]): string {
  const usages = commands.map(({ command }) => String(command));
  return `holdfast ${usages.find((usage) => args.includes(nameOf(usage))) ?? ''}`;
}

function text(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

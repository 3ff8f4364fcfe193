/** What to say of a command line that is not understood: which word of it, and what may have been meant. */
import type { CommandModule } from 'yargs';
import { didYouMean } from '../config/nearest.js';
import { nameOf, surfaceOf } from './surface.js';

/** Options or arguments that yargs does not understand. */
export class UsageError extends Error {
  override readonly name: string = 'UsageError';
}

/** Words that yargs knows nothing of, as it lists them. */
export class UnknownWordsError extends UsageError {
  override readonly name = 'UnknownWordsError';
  readonly words: readonly string[];

  constructor(words: readonly string[]) {
    super(`unknown option or argument: ${words.join(', ')}`);
    this.words = words;
  }
}

/** There is no command; an option in front of it may have taken it for its value. */
export class MissingCommandError extends UsageError {
  override readonly name = 'MissingCommandError';
}

/** What every command understands. */
const common = ['help', 'version'];

/**
 * @param args The command line.
 * @returns One line on the first word that is wrong: `unknown command srve; did you mean serve?`
 */
export async function explain(
  error: UnknownWordsError | MissingCommandError,
  args: readonly string[],
  commands: readonly CommandModule[],
): Promise<string> {
  const names = commands.map(({ command }) => nameOf(String(command)));
  const command = commands.find((_, at) => args.includes(names[at] ?? ''));
  const options = (await (command && surfaceOf(command)))?.options ?? new Map<string, unknown>();
  const near = (option: string) => didYouMean(bare(option), [...options.keys(), ...common], '--');
  if (error instanceof MissingCommandError) {
    const option = args.map(nameIn).find((given) => given.startsWith('-'));
    if (option === undefined) return error.message;
    if (options.has(bare(option))) return `${option} belongs behind the command`;
    const hint = near(option);
    return hint === '' ? `${error.message} (it comes before all options)` : `unknown option ${option}${hint}`;
  }
  const argument = error.words.find((word) => args.includes(word));
  const option = error.words.map((word) => asOption(word, args)).find((found) => found !== undefined);
  if (command === undefined && argument !== undefined) {
    return `unknown command ${argument}${didYouMean(argument, names) || `; there are ${names.join(', ')}`}`;
  }
  if (option !== undefined) {
    const help = command === undefined ? 'holdfast --help' : `holdfast ${nameOf(String(command.command))} --help`;
    return `unknown option ${option}${near(option) || `; ${help} lists those there are`}`;
  }
  return argument === undefined ? error.message : `${argument}: an argument too many`;
}

/** An option without its value. */
function nameIn(arg: string): string {
  return arg.split('=')[0] ?? '';
}

function bare(option: string): string {
  return option.replace(/^--?/, '');
}

/** @returns The word with its dashes, where it is given as an option: `--no-cache` for `cache` too. */
function asOption(word: string, args: readonly string[]): string | undefined {
  return args.map(nameIn).find((given) => given.startsWith('-') && [word, `no-${word}`].includes(bare(given)));
}

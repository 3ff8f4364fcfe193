/**
 * What each command can be given: read off the commands themselves, by handing their builders something that takes notes in place
 * of yargs. Completion, documentation and the advice on mistyped options all come from here. Knows no command by name.
 */
import type { Argv, CommandModule, Options } from 'yargs';
import type { Completions } from '../config/kinds.js';

/** An option or a positional argument as its command declares it, with what a shell can offer for its value. */
export interface Declaration extends Options {
  readonly completions?: Completions;
}

export interface Surface {
  /** As it is called: `serve`. */
  readonly name: string;
  /** With its arguments: `status [pod]`. */
  readonly usage: string;
  readonly describe: string;
  readonly positionals: ReadonlyMap<string, Declaration>;
  readonly options: ReadonlyMap<string, Declaration>;
  /** What its help ends with. */
  readonly epilogue: string;
}

/** @returns undefined for a command that the help does not show. */
export async function surfaceOf({ command, describe, builder }: CommandModule): Promise<Surface | undefined> {
  const [usage = ''] = Array.isArray(command) ? command : [command];
  if (typeof describe !== 'string' || usage === '') return undefined;
  const notes = new Notes();
  if (typeof builder === 'function') await builder(notes.taker);
  else for (const [name, declaration] of Object.entries(builder ?? {})) notes.options.set(name, declaration);
  const { positionals, options, epilogue } = notes;
  return { name: nameOf(usage), usage, describe, positionals, options, epilogue };
}

export async function surfacesOf(commands: readonly CommandModule[]): Promise<Surface[]> {
  const surfaces = await Promise.all(commands.map(surfaceOf));
  return surfaces.filter((surface) => surface !== undefined);
}

/** `status` of `status [pod]`. */
export function nameOf(usage: string): string {
  return usage.split(' ')[0] ?? '';
}

/** Whether something has to follow it. */
export function takesValue({ type, boolean, count }: Declaration): boolean {
  return type !== 'boolean' && type !== 'count' && boolean !== true && count !== true;
}

class Notes {
  readonly positionals = new Map<string, Declaration>();
  readonly options = new Map<string, Declaration>();
  epilogue = '';
  /** Answers every method of yargs with itself, and writes down what some of them are told. */
  readonly taker: Argv = new Proxy({} as Argv, { get: (_, method) => this.#method(method) });

  #method(method: string | symbol): unknown {
    // Builders are awaited, and this is no promise.
    if (method === 'then') return undefined;
    return (first: unknown, second: unknown) => {
      if (method === 'epilogue' || method === 'epilog') this.epilogue = String(first);
      if (method === 'positional') this.positionals.set(String(first), second as Declaration);
      if (method === 'option' || method === 'options') this.#addOptions(first, second);
      return this.taker;
    };
  }

  #addOptions(first: unknown, second: unknown): void {
    const added = typeof first === 'string' ? { [first]: second } : (first as object);
    for (const [name, declaration] of Object.entries(added)) this.options.set(name, declaration ?? {});
  }
}

/**
 * The built program as a child process: `node bin/holdfast.js serve …`. Tests need `npm run build` to have run.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';
import { CriClient } from '../../support/cri-client.js';
import { until } from './until.js';

const executable = fileURLToPath(new URL('../../../bin/holdfast.js', import.meta.url));

/** One line of Holdfast's log, as pino writes it. */
export type LogLine = Readonly<Record<string, unknown>> & { readonly msg?: string };

export interface HoldfastOptions {
  /** The runtime's socket. */
  readonly runtime: string;
  /** Absolute path of the socket to make; it has to be short (107 bytes). */
  readonly listen: string;
  /** Further flags of `serve`, as `['--hold-ttl', '2s']`. */
  readonly flags?: readonly string[];
  /** Its limit of open files; default: that of this process. */
  readonly openFiles?: number;
}

/** Starts `holdfast serve` and waits until it listens; it is killed when the test ends. */
export async function startHoldfast(t: Test, options: HoldfastOptions): Promise<Holdfast> {
  const holdfast = new Holdfast(options);
  t.teardown(async () => {
    if (!t.passing()) t.comment(`end of Holdfast's output:\n${holdfast.output.slice(-60).join('\n')}`);
    await holdfast.kill();
    holdfast.client.close();
  });
  await holdfast.start();
  return holdfast;
}

export class Holdfast {
  readonly socket: string;
  /** A client of Holdfast, over all its lives. */
  readonly client: CriClient;
  /** Every line written to stdout or stderr, over all its lives. */
  readonly output: string[] = [];
  readonly #command: readonly string[];
  #process: ChildProcess | undefined;

  constructor({ listen, runtime, flags = [], openFiles }: HoldfastOptions) {
    this.socket = path.resolve(listen);
    this.client = new CriClient(this.socket);
    const limited = openFiles === undefined ? [] : ['sh', '-c', `ulimit -n ${openFiles}; exec "$@"`, 'sh'];
    const served = ['serve', '--listen', this.socket, '--runtime', runtime, ...flags];
    this.#command = [...limited, process.execPath, executable, ...served];
  }

  get pid(): number {
    if (this.#process?.pid === undefined) throw new Error('Holdfast is not running');
    return this.#process.pid;
  }

  /** The lines that are log lines. */
  get log(): LogLine[] {
    return this.output.flatMap((line) => {
      try {
        const parsed: unknown = JSON.parse(line);
        return typeof parsed === 'object' && parsed !== null ? [parsed as LogLine] : [];
      } catch {
        return [];
      }
    });
  }

  /** Starts it, once more after `kill` or `stop`; resolves when it accepts connections. */
  async start(): Promise<void> {
    const [program = '', ...args] = this.#command;
    const started = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [started.stdout, started.stderr]) {
      createInterface({ input: stream }).on('line', (line) => this.output.push(line));
    }
    started.once('exit', () => {
      if (this.#process === started) this.#process = undefined;
    });
    this.#process = started;
    await until('Holdfast listens', () => {
      if (this.#process === undefined) throw new Error(`Holdfast ended:\n${this.output.slice(-20).join('\n')}`);
      return accepts(this.socket);
    });
  }

  /** Waits for a log line, also one that is there already. */
  logged(what: string, predicate: (line: LogLine) => boolean, timeoutMs?: number): Promise<LogLine> {
    return until(`Holdfast logs ${what}`, () => this.log.find(predicate), timeoutMs);
  }

  /** SIGKILL: no last words. */
  async kill(): Promise<void> {
    await this.#end('SIGKILL');
  }

  /**
   * SIGTERM, and waits for the end.
   *
   * @returns The exit code; null if a signal ended it.
   */
  async stop(): Promise<number | null> {
    return this.#end('SIGTERM');
  }

  async #end(signal: NodeJS.Signals): Promise<number | null> {
    const running = this.#process;
    if (running === undefined) return null;
    const exit = once(running, 'exit');
    running.kill(signal);
    const [code] = (await exit) as [number | null];
    return code;
  }
}

/** @param at Path of a unix socket, or a TCP port of the loopback. */
export function accepts(at: string | number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = typeof at === 'number' ? net.connect(at, '127.0.0.1') : net.connect(at);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

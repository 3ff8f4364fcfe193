/** `holdfast serve` as a child process that does not outlive this one. Its log is read line by line. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { systemClock } from '../../clock.js';
import { executable } from '../../shipped.js';
import { untilAborted } from '../sleep.js';
import type { LogLine } from './holdfast-log.js';

/** Run before the program: standard input ends when this process does, whatever ended it. */
const endWithStdin = "data:text/javascript,process.stdin.on('end',()=>process.kill(process.pid)).resume()";

/** How long it may take to end before it is killed, in ms. */
const endWithinMs = 5_000;

/** Of /proc/PID/stat (USER_HZ, proc(5)), in ms. */
const tickMs = 10;

export interface Usage {
  readonly cpuMs: number;
  readonly rssBytes: number;
}

export interface HoldfastProcessOptions {
  readonly socketPath: string;
  readonly runtimeSocketPath: string;
  /** Further arguments of `serve`. */
  readonly args: readonly string[];
}

export class HoldfastProcess {
  readonly socketPath: string;
  /** Steps of creations and starts, oldest first. */
  readonly log: LogLine[] = [];
  readonly #process: ChildProcessByStdio<Writable, Readable, Readable>;
  readonly #exit: Promise<unknown>;
  #lastWords = '';

  private constructor({ socketPath, runtimeSocketPath, args }: HoldfastProcessOptions, serving: () => void) {
    this.socketPath = socketPath;
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('HOLDFAST_')));
    this.#process = spawn(
      process.execPath,
      [
        '--import',
        endWithStdin,
        executable,
        'serve',
        `--listen=${socketPath}`,
        `--runtime=${runtimeSocketPath}`,
        ...args,
      ],
      // In a process group of its own: Ctrl-C is for the bench, which still needs it to clean up.
      { stdio: ['pipe', 'pipe', 'pipe'], env, detached: true },
    );
    this.#exit = once(this.#process, 'close').catch((error: unknown) => {
      this.#lastWords = String(error);
    });
    createInterface({ input: this.#process.stdout }).on('line', (text) => {
      const line: Partial<LogLine> & { readonly msg?: string } = JSON.parse(text);
      if (line.step !== undefined) this.log.push(line as LogLine);
      if (line.msg === 'serving') serving();
    });
    createInterface({ input: this.#process.stderr }).on('line', (text) => {
      this.#lastWords = text;
    });
  }

  /**
   * Resolves when it serves.
   *
   * @throws It ended instead, or the signal fired.
   */
  static async start(options: HoldfastProcessOptions, signal: AbortSignal): Promise<HoldfastProcess> {
    let serving = (): void => undefined;
    const served = new Promise<boolean>((resolve) => {
      serving = () => resolve(true);
    });
    const holdfast = new HoldfastProcess(options, serving);
    const ended = holdfast.#exit.then(() => false);
    await untilAborted(Promise.race([served, ended]), signal);
    if (!signal.aborted && (await Promise.race([served, ended]))) return holdfast;
    await holdfast.stop();
    signal.throwIfAborted();
    throw new Error(`holdfast serve ended: ${holdfast.#lastWords}`);
  }

  /** What it has used so far; undefined where the system does not say. */
  usage(): Usage | undefined {
    const { pid } = this.#process;
    try {
      const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
        .replace(/^.*\) /s, '')
        .split(' ');
      const rssKiB = /^VmRSS:\s*(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
      return { cpuMs: (Number(fields[11]) + Number(fields[12])) * tickMs, rssBytes: Number(rssKiB) * 1024 };
    } catch {
      return undefined;
    }
  }

  /** Resolves when it is gone. */
  async stop(): Promise<void> {
    this.#process.kill('SIGTERM');
    const cancel = systemClock.after(endWithinMs, () => this.#process.kill('SIGKILL'));
    await this.#exit;
    cancel();
  }
}

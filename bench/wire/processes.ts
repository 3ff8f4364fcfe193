/** Child processes of a benchmark, and what /proc says of them. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

const ticksPerSecond = Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }));
const startLimitMs = 10_000;

export interface Usage {
  /** User and system time of all threads since the start, in seconds, in steps of a clock tick (10 ms). */
  readonly cpuSeconds: number;
  readonly rssBytes: number;
}

/** A server that a benchmark started and ends. */
export class Server {
  readonly name: string;
  /** Where it listens. */
  readonly socket: string;
  /** The process that does the work. */
  readonly pid: number;
  readonly #child: ChildProcess;

  private constructor(name: string, socket: string, pid: number, child: ChildProcess) {
    this.name = name;
    this.socket = socket;
    this.pid = pid;
    this.#child = child;
  }

  /**
   * Starts a server that stays in the foreground and waits until it accepts connections on `socket`.
   *
   * @param workers Whether a child process of it does the work (nginx's master and its worker).
   * @throws It ended, or did not listen within 10 s.
   */
  static async start(
    name: string,
    socket: string,
    command: readonly [program: string, ...args: string[]],
    workers = false,
  ): Promise<Server> {
    const [program, ...args] = command;
    const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    let said = '';
    child.stderr.on('data', (text: Buffer) => {
      said = `${said}${text}`.slice(-2000);
    });
    child.on('error', (error) => {
      said += String(error);
    });
    for (const limit = Date.now() + startLimitMs; !(await accepts(socket)); await sleep(20)) {
      if (child.pid === undefined || child.exitCode !== null || Date.now() > limit) {
        child.kill();
        throw new Error(`${name} does not listen on ${socket}: ${said}`);
      }
    }
    const pid = child.pid ?? 0;
    return new Server(name, socket, workers ? onlyChild(pid) : pid, child);
  }

  get usage(): Usage {
    return usageOf(this.pid);
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exit = once(this.#child, 'exit');
    this.#child.kill('SIGTERM');
    await exit;
  }
}

/** @see proc(5), /proc/pid/stat fields 14 and 15, /proc/pid/status VmRSS. */
export function usageOf(pid: number): Usage {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const [user, system] = stat
    .slice(stat.lastIndexOf(')') + 2)
    .split(' ')
    .slice(11, 13)
    .map(Number);
  const [, kibibytes] = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return { cpuSeconds: ((user ?? 0) + (system ?? 0)) / ticksPerSecond, rssBytes: Number(kibibytes) * 1024 };
}

function onlyChild(pid: number): number {
  return Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ')[0]);
}

function accepts(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(socket);
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', () => resolve(false));
  });
}

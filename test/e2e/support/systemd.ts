/**
 * A real systemd of the test's own, as the first process of new namespaces; root, no reboot. node/supervise.sh and node/boot.sh say what
 * it may touch: its directory, and nothing else on this machine. What it keeps there survives a power cut.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Test } from 'tap';
import { missingPrograms } from './programs.js';
import { until } from './until.js';

const supervisor = fileURLToPath(new URL('node/supervise.sh', import.meta.url));
const repository = fileURLToPath(new URL('../../..', import.meta.url));
/** Where a unit sees the test's directory, also one that has a /tmp of its own. */
export const inside = '/run/test';
/** Where it sees the machine's /tmp; its own is empty. */
export const machineTmp = '/run/machine-tmp';
/** Where it sees this repository. */
export const repositoryInside = '/run/repository';
/** Where it sees the Node that runs the test. */
export const nodeInside = '/run/node';

const targets = ['sysinit', 'basic', 'sockets', 'timers', 'multi-user', 'shutdown', 'umount'];

/** Why systemd cannot be run here. */
export function missingSystemd(): string | undefined {
  if (process.platform !== 'linux') return 'needs Linux';
  if (process.getuid?.() !== 0) return 'needs root';
  const systemd = ['/lib/systemd/systemd', 'systemctl', 'systemd-notify', 'systemd-run'];
  return missingPrograms(...systemd, 'ip', 'nsenter', 'setpriv', 'unshare');
}

/** Boots; everything ends and goes with the test. @param prepare What is done before. */
export async function startSystemd(t: Test, prepare: (systemd: Systemd) => void = () => {}): Promise<Systemd> {
  const booted = new Systemd();
  t.teardown(async () => {
    if (!t.passing()) t.comment(`end of systemd's log:\n${booted.log.slice(-60).join('\n')}`);
    await booted.end();
  });
  prepare(booted);
  await booted.boot();
  return booted;
}

export class Systemd {
  /** Seen as `inside` from inside. Its owner is the test. */
  readonly directory = fs.mkdtempSync(path.join(os.tmpdir(), 'hfsd-'));
  /** Lines that systemd has written so far. */
  readonly log: string[] = [];
  #supervisor: ChildProcess | undefined;
  #pid = 0;

  constructor() {
    fs.mkdirSync(path.join(this.directory, 'units'));
    for (const name of targets) this.writeUnit(`${name}.target`, `[Unit]\nDescription=${name}\n`);
    this.writeUnit('service.d/10-output.conf', `[Service]\nStandardOutput=append:${inside}/services.log\n`);
  }

  /** @param name As `x.service`, or of a drop-in `x.service.d/10-y.conf`. It counts at the next `daemon-reload`. */
  writeUnit(name: string, text: string): void {
    const file = path.join(this.directory, 'units', name);
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(file, text);
  }

  /** @param file Absolute, below /etc, /opt, /usr/local or /var. */
  writeFile(file: string, text: string, mode = 0o644): void {
    const seen = this.path(file);
    fs.mkdirSync(path.dirname(seen), { recursive: true });
    fs.writeFileSync(seen, text, { mode });
  }

  /** @returns Where the test finds what is at this path inside; while it does not run, only of what was written there. */
  path(file: string): string {
    return this.#pid === 0 ? `${this.directory}/copies${file}` : `/proc/${this.#pid}/root${file}`;
  }

  /** Once, or again after `powerOff`. */
  async boot(): Promise<void> {
    fs.rmSync(this.#servicesLog, { force: true });
    const started = spawn('bash', [supervisor, this.directory, repository, process.execPath]);
    this.#supervisor = started;
    for (const input of [started.stdout, started.stderr]) {
      createInterface({ input }).on('line', (line) => this.log.push(line));
    }
    await until('systemd answers', async () => {
      if (started.exitCode !== null) throw new Error(`systemd ended:\n${this.log.join('\n')}`);
      const [pid] = children(started.pid).flatMap(children);
      if (pid === undefined || !read(`/proc/${pid}/comm`).startsWith('systemd')) return false;
      this.#pid = pid;
      return this.systemctl('is-active', 'multi-user.target').catch(() => false);
    });
  }

  /** @returns What it wrote to stdout. @throws It failed. */
  async run(...command: readonly string[]): Promise<string> {
    const [nsenter, args] = this.enter(command);
    return (await promisify(execFile)(nsenter, args)).stdout.trim();
  }

  /**
   * @returns The program, and its arguments, which runs this command inside. Of the environment it gets nothing: tap loads something into
   * each Node that a test starts, and that cannot be read, or written what it writes, wherever this repository is.
   */
  enter(command: readonly string[]): [program: string, args: string[]] {
    const environment = ['env', '-i', `PATH=${process.env.PATH}`, 'TZ=UTC'];
    return ['nsenter', ['-t', String(this.#pid), '-a', '--', ...environment, ...command]];
  }

  systemctl(...args: readonly string[]): Promise<string> {
    return this.run('systemctl', ...args);
  }

  /** A property of a unit, as `systemctl show` says it. */
  show(unit: string, property: string): Promise<string> {
    return this.systemctl('show', '--value', '--property', property, unit);
  }

  /** @returns In the numbers of the test's side; 0 where the service does not run. */
  async mainPid(unit: string): Promise<number> {
    const inner = await this.show(unit, 'MainPID');
    return inner === '0' ? 0 : (pidsInside(this.#pid).get(Number(inner)) ?? 0);
  }

  /** What services have written to stdout and stderr since it was booted. */
  output(): string {
    return read(this.#servicesLog);
  }

  get #servicesLog(): string {
    return path.join(this.directory, 'services.log');
  }

  /** As by a power cut: nothing has a last word. */
  async powerOff(): Promise<void> {
    const running = this.#supervisor;
    this.#pid = 0;
    if (running === undefined) return;
    const exit = running.exitCode ?? once(running, 'exit').then(([code]) => code);
    running.stdin?.end();
    if ((await exit) !== 0) throw new Error(`systemd has left something behind:\n${this.log.slice(-10).join('\n')}`);
  }

  async end(): Promise<void> {
    await this.powerOff();
    fs.rmSync(this.directory, { recursive: true, force: true });
  }
}

/** The processes below one, by the number that their own namespace has for them. */
function pidsInside(pid: number): Map<number, number> {
  const found = new Map<number, number>();
  const visit = (outer: number) => {
    const inner = /^NSpid:.*\s(\d+)$/m.exec(read(`/proc/${outer}/status`))?.[1];
    if (inner !== undefined) found.set(Number(inner), outer);
    children(outer).forEach(visit);
  };
  visit(pid);
  return found;
}

function children(pid = 0): number[] {
  return read(`/proc/${pid}/task/${pid}/children`).trim().split(' ').filter(Boolean).map(Number);
}

function read(file: string): string {
  try {
    return fs.readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

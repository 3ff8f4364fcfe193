/**
 * A node for tests that install: systemd as the first process of its own namespaces, a simulated runtime and something like a kubelet as its
 * services. What is written there stays in a folder of the test.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';
import { missingPrograms } from './programs.js';
import { until } from './until.js';

const repository = fileURLToPath(new URL('../../..', import.meta.url)).replace(/\/$/, '');
const sources = `${repository}/test/e2e/support/node`;
const bundle = `${repository}/dist/holdfast.mjs`;

/** There is no journal on the node. */
const servicesLog = '/run/services.log';

export interface Ended {
  readonly code: number;
  readonly output: string;
}

export interface NodeOptions {
  /** What follows the kubelet's program in its ExecStart. */
  readonly kubeletArguments: string;
  /** Lines of kubelet.service before ExecStart. */
  readonly kubeletService?: string;
  /** Files of the node, by name. */
  readonly files: Readonly<Record<string, string>>;
  /** Text of a program in the place of Holdfast's. */
  readonly program?: string;
  /** Folders that are copied to the node, by the name that they get there. */
  readonly folders?: Readonly<Record<string, string>>;
}

/** Why there can be no such node here. */
export function missingSystemd(): string | undefined {
  if (process.getuid?.() !== 0) return 'needs root';
  return missingPrograms('/lib/systemd/systemd', 'setpriv', 'unshare', 'nsenter', 'ip', 'systemd-run');
}

/** Boots a node, which ends with the test. */
export async function startNode(t: Test, options: NodeOptions): Promise<SystemdNode> {
  const node = new SystemdNode(options);
  t.teardown(async () => {
    if (!t.passing()) t.comment(`end of the node's output:\n${node.output.split('\n').slice(-60).join('\n')}`);
    await node.powerOff();
    fs.rmSync(node.state, { recursive: true, force: true });
  });
  await node.boot();
  return node;
}

export class SystemdNode {
  /** What is written on the node, below it. Not on a tmpfs, which may not be the upper part of an overlay everywhere. */
  readonly state = fs.mkdtempSync(path.join(os.tmpdir(), 'hfnode-'));
  console = '';
  #process: ChildProcess | undefined;
  #pid = 0;

  constructor({ kubeletArguments, kubeletService = '', files, program, folders = {} }: NodeOptions) {
    const units = `${this.state}/units`;
    fs.mkdirSync(units);
    const node = process.execPath;
    const service = (lines: string) =>
      `[Service]\n${lines}\nRestart=always\nRestartSec=500ms\nStandardOutput=append:${servicesLog}\nStandardError=append:${servicesLog}\n`;
    const runtime = `${node} ${sources}/runtime.mjs ${repository}/dist /run/containerd/containerd.sock`;
    fs.writeFileSync(
      `${units}/containerd.service`,
      service(`ExecStart=${runtime}\nRuntimeDirectory=containerd\nRuntimeDirectoryPreserve=yes`),
    );
    fs.writeFileSync(
      `${units}/kubelet.service`,
      `[Unit]\nAfter=containerd.service\nStartLimitIntervalSec=0\n` +
        service(`${kubeletService}\nExecStart=${node} ${sources}/kubelet.mjs ${kubeletArguments}`),
    );
    fs.mkdirSync(`${units}/multi-user.target.wants`);
    for (const unit of ['containerd.service', 'kubelet.service']) {
      fs.symlinkSync(`../${unit}`, `${units}/multi-user.target.wants/${unit}`);
    }
    for (const [file, text] of Object.entries(files)) this.write(file, text);
    for (const [folder, from] of Object.entries(folders)) {
      fs.cpSync(from, this.state + folder, { recursive: true, verbatimSymlinks: true });
    }
    this.write('/opt/test/holdfast.mjs', program ?? fs.readFileSync(bundle, 'utf8'));
  }

  /** A file of the node, while that is off or on. */
  write(file: string, text: string): void {
    fs.mkdirSync(path.dirname(this.state + file), { recursive: true });
    fs.writeFileSync(this.state + file, text);
  }

  /** Once it has been booted. */
  read(file: string): string | undefined {
    try {
      return fs.readFileSync(`/proc/${this.#pid}/root${file}`, 'utf8');
    } catch {
      return undefined;
    }
  }

  /** Of systemd and of the services. */
  get output(): string {
    return `${this.console}\n${this.read(servicesLog) ?? ''}`;
  }

  async boot(): Promise<void> {
    // It ends with this process, whatever ends that.
    const boot = ['bash', `${sources}/boot.sh`, this.state, `${this.state}/units`, repository];
    const started = spawn('setpriv', ['--pdeathsig', 'KILL', ...boot]);
    this.#process = started;
    for (const stream of [started.stdout, started.stderr]) {
      stream.on('data', (chunk: Buffer) => {
        this.console += chunk.toString();
      });
    }
    this.#pid = await until('systemd runs', () => {
      if (started.exitCode !== null) throw new Error(`it did not boot:\n${this.console}`);
      const child = fs.readFileSync(`/proc/${started.pid}/task/${started.pid}/children`, 'utf8').trim();
      const isSystemd = child !== '' && fs.readFileSync(`/proc/${child}/comm`, 'utf8') === 'systemd\n';
      return isSystemd && Number(child);
    });
    await until(
      'it has booted',
      async () => (await this.run('systemctl', 'is-active', 'multi-user.target')).code === 0,
    );
  }

  /** As by a power cut: nothing on the node has a last word. */
  async powerOff(): Promise<void> {
    const running = this.#process;
    if (running === undefined || running.exitCode !== null || running.signalCode !== null) return;
    const exit = once(running, 'exit');
    if (this.#pid !== 0) process.kill(this.#pid, 'SIGKILL');
    else running.kill('SIGKILL');
    await exit;
    this.#pid = 0;
  }

  /** Runs a program on the node to its end. */
  run(program: string, ...args: readonly string[]): Promise<Ended> {
    const command = ['-t', String(this.#pid), '-a', program, ...args];
    const env = { PATH: process.env.PATH, TZ: 'UTC' };
    return new Promise((resolve) => {
      execFile('nsenter', command, { env, timeout: 90_000 }, (error, stdout, stderr) => {
        const code = error === null ? 0 : typeof error.code === 'number' ? error.code : 1;
        resolve({ code, output: stdout + stderr });
      });
    });
  }

  /** Starts a program on the node; it ends with the node. */
  start(program: string, ...args: readonly string[]): ChildProcess {
    return spawn('nsenter', ['-t', String(this.#pid), '-a', program, ...args], { env: { PATH: process.env.PATH } });
  }

  /** The command line of the source tree, on the node. */
  holdfast(...args: readonly string[]): Promise<Ended> {
    return this.run(process.execPath, `${repository}/bin/holdfast.js`, ...args);
  }

  install(...args: readonly string[]): Promise<Ended> {
    return this.holdfast('install', ...installArguments, ...args);
  }

  /** Starts to install and goes on. @returns The process. */
  installing(...args: readonly string[]): ChildProcess {
    const command = [process.execPath, `${repository}/bin/holdfast.js`, 'install', ...installArguments, ...args];
    return spawn('nsenter', ['-t', String(this.#pid), '-a', ...command], { stdio: 'ignore' });
  }

  /** @returns The socket that the kubelet that runs now uses. */
  async dialled(): Promise<string | undefined> {
    const { output } = await this.run('systemctl', 'show', 'kubelet.service', '--property=MainPID');
    const pid = /MainPID=(\d+)/.exec(output)?.[1];
    return new RegExp(`^${pid} dials (\\S+)$`, 'm').exec(this.read(servicesLog) ?? '')?.[1];
  }

  async isWell(): Promise<boolean> {
    const url = 'http://127.0.0.1:10248/healthz';
    return (
      (await this.run(process.execPath, '-e', `fetch('${url}').then((r) => process.exit(r.ok ? 0 : 1))`)).code === 0
    );
  }
}

const installArguments = ['--program=/opt/test/holdfast.mjs'];

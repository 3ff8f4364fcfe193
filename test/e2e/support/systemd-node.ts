/** A node for tests that install: under a systemd of the test's own a simulated runtime, and something like a kubelet. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import fs from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';
import { nodeInside, repositoryInside, type Systemd, startSystemd } from './systemd.js';

const sources = `${repositoryInside}/test/e2e/support/node`;
const bundle = fileURLToPath(new URL('../../../dist/holdfast.mjs', import.meta.url));
const program = '/opt/test/holdfast.mjs';
const commandLine = [nodeInside, `${repositoryInside}/bin/holdfast.js`];

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

/** Boots a node, which ends with the test. */
export async function startNode(t: Test, options: NodeOptions): Promise<SystemdNode> {
  const systemd = await startSystemd(t, (systemd) => furnish(systemd, options));
  t.teardown(() => {
    if (!t.passing()) t.comment(`end of the services' output:\n${systemd.output().split('\n').slice(-60).join('\n')}`);
  });
  return new SystemdNode(systemd);
}

function furnish(systemd: Systemd, { kubeletArguments, kubeletService, files, folders, ...rest }: NodeOptions): void {
  const runtime = `${nodeInside} ${sources}/runtime.mjs ${repositoryInside}/dist /run/containerd/containerd.sock`;
  const runtimeService = 'RuntimeDirectory=containerd\nRuntimeDirectoryPreserve=yes';
  const kubelet = `${nodeInside} ${sources}/kubelet.mjs ${kubeletArguments}`;
  systemd.writeUnit('containerd.service', service(runtime, runtimeService));
  systemd.writeUnit('kubelet.service', service(kubelet, kubeletService));
  systemd.writeUnit('kubelet.service.d/10-order.conf', '[Unit]\nAfter=containerd.service\nStartLimitIntervalSec=0\n');
  systemd.writeUnit('multi-user.target.d/10-node.conf', '[Unit]\nWants=containerd.service kubelet.service\n');
  for (const [file, text] of Object.entries(files)) systemd.writeFile(file, text);
  for (const [folder, from] of Object.entries(folders ?? {})) {
    fs.cpSync(from, systemd.path(folder), { recursive: true, verbatimSymlinks: true });
  }
  systemd.writeFile(program, rest.program ?? fs.readFileSync(bundle, 'utf8'));
}

const service = (starts: string, lines = '') =>
  `[Service]\n${lines}\nExecStart=${starts}\nRestart=always\nRestartSec=500ms\n`;

/** An installer at work. */
export class Installing {
  readonly #entered: ChildProcess;
  #output = '';

  /** @param entered What entered the node for it; the installer ends with that. */
  constructor(entered: ChildProcess) {
    this.#entered = entered;
    for (const stream of [entered.stdout, entered.stderr]) stream?.on('data', (chunk) => (this.#output += chunk));
  }

  get isOver(): boolean {
    return this.#entered.exitCode !== null || this.#entered.signalCode !== null;
  }

  /** What it has said so far. */
  get output(): string {
    return this.#output;
  }

  kill(): void {
    this.#entered.kill('SIGKILL');
  }
}

export class SystemdNode {
  readonly #systemd: Systemd;

  constructor(systemd: Systemd) {
    this.#systemd = systemd;
  }

  /** While it runs. */
  read(file: string): string | undefined {
    try {
      return fs.readFileSync(this.#systemd.path(file), 'utf8');
    } catch {
      return undefined;
    }
  }

  /** Once more after `powerOff`. */
  boot(): Promise<void> {
    return this.#systemd.boot();
  }

  /** As by a power cut: nothing on the node has a last word. */
  powerOff(): Promise<void> {
    return this.#systemd.powerOff();
  }

  /** Runs a program on the node to its end. */
  run(...command: readonly string[]): Promise<Ended> {
    const [nsenter, args] = this.#systemd.enter(command);
    return new Promise((resolve) => {
      execFile(nsenter, args, { timeout: 90_000 }, (error, stdout, stderr) => {
        const code = error === null ? 0 : typeof error.code === 'number' ? error.code : 1;
        resolve({ code, output: stdout + stderr });
      });
    });
  }

  /** Starts a program on the node; it ends with the node. */
  start(...command: readonly string[]): ChildProcess {
    return spawn(...this.#systemd.enter(command));
  }

  /** The command line of the source tree, on the node. */
  holdfast(...args: readonly string[]): Promise<Ended> {
    return this.run(...commandLine, ...args);
  }

  install(...args: readonly string[]): Promise<Ended> {
    return this.holdfast('install', `--program=${program}`, ...args);
  }

  /** Starts to install and goes on. */
  installing(...args: readonly string[]): Installing {
    const command = ['setpriv', '--pdeathsig', 'KILL', ...commandLine, 'install', `--program=${program}`, ...args];
    return new Installing(spawn(...this.#systemd.enter(command), { stdio: ['ignore', 'pipe', 'pipe'] }));
  }

  /** @returns The socket that the kubelet that runs now uses. */
  async dialled(): Promise<string | undefined> {
    const pid = await this.#systemd.show('kubelet.service', 'MainPID');
    return new RegExp(`^${pid} dials (\\S+)$`, 'm').exec(this.#systemd.output())?.[1];
  }

  async isWell(): Promise<boolean> {
    const { output } = await this.run('bash', '-c', healthz);
    return output.startsWith('HTTP/1.1 200');
  }
}

/** What the kubelet's /healthz answers; a program that takes its time to start would be asked with too seldom. */
const healthz = `exec 3<>/dev/tcp/127.0.0.1/10248; printf 'GET /healthz HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3`;

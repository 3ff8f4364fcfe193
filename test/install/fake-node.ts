/** A node in a temporary folder: its files, what systemd says of its units, and who answers. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Test } from 'tap';
import type { Asks } from '../../src/install/asks.js';
import { NoVersionError } from '../../src/install/cri-version.js';
import type { Machine, Ran } from '../../src/install/machine.js';
import { NodeFiles } from '../../src/install/node-files.js';
import { Steps } from '../../src/install/steps.js';

export const containerd = '/run/containerd/containerd.sock';
export const kubeletUnit = `# /usr/lib/systemd/system/kubelet.service
[Service]
ExecStart=/usr/bin/kubelet --config=/var/lib/kubelet/config.yaml
`;
export const kubeletConfig = 'apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nmaxPods: 20\n';

const bundle = '/opt/holdfast/lib/holdfast.mjs';

export class FakeNode {
  readonly folder: string;
  readonly files: NodeFiles;
  /** What `systemctl cat` says. */
  readonly units = new Map<string, string>();
  /** What `systemctl show` says. */
  readonly states = new Map<string, Record<string, string>>();
  /** Sockets on which a runtime answers. */
  readonly answering = new Set<string>();
  readonly ran: string[] = [];
  /** Commands that fail. */
  readonly failing = new Map<string, Ran>();
  output = '';
  nowMs = 0;
  lists: () => number | undefined = () => this.nowMs;
  healthz = 'ok';
  /** Told each command. */
  onCommand: (command: string) => void = () => {};

  constructor(t: Test, files: Readonly<Record<string, string>> = {}) {
    this.folder = mkdtempSync(path.join(tmpdir(), 'hfn-'));
    t.teardown(() => rmSync(this.folder, { recursive: true, force: true }));
    this.files = new NodeFiles(this.folder);
    for (const [file, text] of Object.entries({ '/run/systemd/system/here': '', ...files })) this.write(file, text);
    for (const name of ['cpu', 'io', 'memory']) this.write(`/proc/pressure/${name}`, 'some avg10=0.00\n');
    this.write('/usr/lib/systemd/systemd-socket-proxyd', '');
  }

  write(file: string, text: string): void {
    mkdirSync(path.dirname(this.folder + file), { recursive: true });
    writeFileSync(this.folder + file, text);
  }

  read(file: string): string {
    return readFileSync(this.folder + file, 'utf8');
  }

  /** A socket file, on which nobody has to answer. */
  async listen(t: Test, file: string): Promise<void> {
    mkdirSync(path.dirname(this.folder + file), { recursive: true });
    const server = createServer();
    await new Promise<void>((resolve) => {
      server.listen(this.folder + file, resolve);
    });
    t.teardown(() => server.close());
  }

  get steps(): Steps {
    return new Steps({ write: (text) => (this.output += text) }, false);
  }

  get machine(): Machine {
    return {
      files: this.files,
      run: async (program, args) => this.#run([program, ...args].join(' '), args),
      clock: {
        now: () => this.nowMs,
        after: (delayMs, callback) => {
          this.nowMs += delayMs;
          const timer = setImmediate(callback);
          return () => clearImmediate(timer);
        },
      },
      date: () => new Date('2026-01-02T03:04:05.678Z'),
    };
  }

  get asks(): Asks {
    return {
      version: async (socket) => {
        if (!this.answering.has(socket.slice(this.folder.length))) throw new NoVersionError('ENOENT', 'no such file');
        return { runtimeName: 'containerd', runtimeVersion: '2.1.9', apiVersion: 'v1' };
      },
      healthz: async () => this.healthz,
      lists: async () => this.lists(),
    };
  }

  /** A bundle of a test says its version and no more. */
  #versionIn(file: string): string {
    return `${this.files.text(file) || '0.1.0'}\n`;
  }

  #run(command: string, args: readonly string[]): Ran {
    this.ran.push(command);
    this.onCommand(command);
    const failed = [...this.failing].find(([start]) => command.startsWith(start));
    if (failed !== undefined) return failed[1];
    const ok = (stdout = ''): Ran => ({ code: 0, stdout, stderr: '' });
    const [, unit = ''] = args;
    if (command.startsWith('systemctl cat')) {
      const text = this.units.get(unit);
      return text === undefined ? { code: 1, stdout: '', stderr: `No files found for ${unit}.` } : ok(text);
    }
    if (command.startsWith('systemctl show')) {
      const state = Object.entries(this.states.get(unit) ?? { ActiveState: 'inactive', SubState: 'dead' });
      return ok(state.map(([name, value]) => `${name}=${value}`).join('\n'));
    }
    if (command === 'systemctl --version') return ok('systemd 252 (252)\n');
    if (command.startsWith('systemctl is-enabled'))
      return ok(`${this.states.get(unit)?.UnitFileState ?? 'disabled'}\n`);
    if (command.startsWith('/opt/holdfast/bin/holdfast --version')) return ok(this.#versionIn(bundle));
    if (command.endsWith('.mjs --version')) return ok(this.#versionIn(args[0] ?? ''));
    if (command.startsWith('env ')) {
      return { code: 1, stdout: '', stderr: 'holdfast: --listen: cannot make the directory /proc/holdfast\n' };
    }
    if (command.startsWith('/opt/holdfast/bin/node --version')) return ok('v24.1.0\n');
    if (command.includes('kubelet') && command.includes('--version')) return ok('Kubernetes v1.36.2\n');
    return ok();
  }
}

export const running = { ActiveState: 'active', SubState: 'running', UnitFileState: 'enabled', InvocationID: 'first' };

/** A node as it is once all is installed and the kubelet is behind Holdfast. */
export async function installedNode(t: Test): Promise<FakeNode> {
  const node = new FakeNode(t, {
    '/var/lib/kubelet/config.yaml': `${kubeletConfig}containerRuntimeEndpoint: unix:///run/holdfast/holdfast.sock\n`,
    '/etc/holdfast.yaml': `listen: /run/holdfast/holdfast.sock\nruntime: ${containerd}\n`,
    '/opt/holdfast/bin/holdfast': '',
    '/etc/systemd/system/holdfast.service': '',
    '/etc/systemd/system/holdfast.socket': '',
  });
  node.units.set('kubelet.service', kubeletUnit);
  node.states.set('kubelet.service', running);
  node.states.set('holdfast.service', { ...running, NRestarts: '0', WatchdogUSec: '20s' });
  node.states.set('holdfast.socket', { ...running, SubState: 'listening' });
  for (const socket of [containerd, '/run/holdfast/holdfast.sock']) {
    node.answering.add(socket);
    await node.listen(t, socket);
  }
  return node;
}

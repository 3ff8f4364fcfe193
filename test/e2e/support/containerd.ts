/**
 * A real containerd of the test's own: private root, state, socket, network and cgroups, slow on demand, restartable, and
 * gone without a trace afterwards. Touches no other containerd. Knows nothing of Holdfast. Which containerd it is says
 * HOLDFAST_TEST_CONTAINERD, or else the PATH.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { Test } from 'tap';
import { type ContainerdVersion, versionOf } from '../../support/containerd-version.js';
import { CriClient, KubeletPod, type PodOptions } from '../../support/cri-client.js';
import { containerdConfig } from './containerd-config.js';
import { images, volumeFile, writeImageArchive } from './images.js';
import { containerdFolder, find, missingPrograms, searchPath, skipFor } from './programs.js';
import { until } from './until.js';

export { images } from './images.js';

const environment = { ...process.env, PATH: searchPath };
const cniDirectories = ['/usr/lib/cni', '/opt/cni/bin', '/usr/libexec/cni'];
const cniCache = '/var/lib/cni/results';
const programs = ['containerd', 'ctr', 'runc', 'ip', 'umount', 'setpriv', 'perl', 'tar', 'bash', 'busybox'] as const;
/** Those of them that HOLDFAST_TEST_CONTAINERD has to have. */
const ownPrograms = ['containerd', 'ctr', 'containerd-shim-runc-v2'];
/** Begins the name of every instance: of its directory, bridge, network and cgroup. */
const prefix = 'hfcd-';

/** The `skip` of tests with a containerd. */
export const skipReason = skipFor(missing());

export function missing(): string | undefined {
  if (process.platform !== 'linux') return 'needs Linux';
  if (process.getuid?.() !== 0) return 'needs root';
  const absent = missingPrograms(...programs);
  if (absent !== undefined) return absent;
  const own = ownPrograms.find((program) => containerdFolder && !fs.existsSync(path.join(containerdFolder, program)));
  if (own !== undefined) return `needs ${own} in ${containerdFolder}`;
  if (cniPlugins() === undefined) return `needs CNI plugins in ${cniDirectories.join(' or ')}`;
  return undefined;
}

/** Of the containerd of these tests; a version of no consequence where there is none. */
export function containerdVersion(): ContainerdVersion {
  if (missing() !== undefined) return { major: 0, minor: 0 };
  return versionOf(execFileSync('containerd', ['--version'], { env: environment, encoding: 'utf8' }));
}

function cniPlugins(): string | undefined {
  return cniDirectories.find((directory) => fs.existsSync(path.join(directory, 'bridge')));
}

/** Makes a private containerd and starts it; it is cleaned up when the test ends, however it ends. */
export async function startContainerd(t: Test): Promise<RealContainerd> {
  const reason = missing();
  if (reason !== undefined) throw new Error(`cannot run containerd here: ${reason}`);
  await sweep();
  const containerd = new RealContainerd();
  t.teardown(async () => {
    if (!t.passing()) t.comment(`end of containerd's log:\n${containerd.log().split('\n').slice(-40).join('\n')}`);
    await containerd.cleanUp();
  });
  await containerd.start();
  await containerd.importImages();
  return containerd;
}

export class RealContainerd {
  readonly directory: string;
  /** The CRI socket. */
  readonly socket: string;
  /** Below it are the cgroups of everything this instance runs. */
  readonly cgroupParent: string;
  /** Straight to the runtime, with no deadline but each call's own. */
  readonly client: CriClient;
  #process: ChildProcess | undefined;
  #gate: ChildProcess | undefined;

  constructor() {
    this.directory = fs.mkdtempSync(path.join(os.tmpdir(), prefix));
    fs.writeFileSync(this.#path('owner'), `${process.pid} ${startTime(process.pid)}`);
    this.socket = this.#path('cri.sock');
    this.cgroupParent = `/${path.basename(this.directory)}`;
    this.client = new CriClient(this.socket);
    this.#writeNetwork();
    this.#writeRuntime();
    fs.writeFileSync(this.#path('config.toml'), this.#config());
  }

  get pid(): number {
    if (this.#process?.pid === undefined) throw new Error('containerd is not running');
    return this.#process.pid;
  }

  /** A new pod (another uid each time unless given) whose cgroups and logs are this instance's. */
  pod(options: Partial<PodOptions> = {}): KubeletPod {
    return new KubeletPod({
      directory: this.directory,
      cgroupParent: `${this.cgroupParent}/${crypto.randomUUID().slice(0, 8)}`,
      ...options,
    });
  }

  /** Starts containerd, on the state an earlier one left; resolves when the CRI answers. */
  async start(): Promise<void> {
    const log = fs.openSync(this.#path('containerd.log'), 'a');
    // It must not outlive a test process that is killed.
    const started = spawn('setpriv', ['--pdeathsig', 'KILL', 'containerd', '--config', this.#path('config.toml')], {
      stdio: ['ignore', log, log],
      env: environment,
    });
    fs.closeSync(log);
    started.once('exit', () => {
      if (this.#process === started) this.#process = undefined;
    });
    this.#process = started;
    await until('containerd answers', async () => {
      if (this.#process === undefined) throw new Error(`containerd ended:\n${this.log().slice(-2000)}`);
      return this.client.call('Version', {}, { deadlineMs: 2000 }).catch(() => undefined);
    });
  }

  /** SIGKILL, as a crash: pods, containers and their shims go on. */
  async kill(): Promise<void> {
    const running = this.#process;
    if (running === undefined) return;
    const exit = once(running, 'exit');
    running.kill('SIGKILL');
    await exit;
  }

  /** Stops the whole process where it is: no call is answered until `resume`. */
  pause(): void {
    process.kill(this.pid, 'SIGSTOP');
  }

  resume(): void {
    process.kill(this.pid, 'SIGCONT');
  }

  /**
   * Makes the CNI ADD of a sandbox, and so RunPodSandbox, take this long. A shorter delay lets those go that wait already, so
   * a very long one followed by 0 is a gate.
   */
  setCniDelay(seconds: number): void {
    replaceFile(this.#path('cni-delay'), String(Math.round(seconds * 1000)));
  }

  /** The same for a CNI DEL, and so for the rollback of a sandbox. */
  setCniDelDelay(seconds: number): void {
    replaceFile(this.#path('cni-del-delay'), String(Math.round(seconds * 1000)));
  }

  /** The CNI ADD of the pod with this name never ends, or only the first one does not. */
  hangCni(podName: string, often: 'always' | 'once'): void {
    fs.writeFileSync(this.#path(`cni/hangs/${podName}`), often);
  }

  /** As `setCniDelay` for the OCI runtime's `create` of a container (not of a sandbox), and so for StartContainer. */
  setStartDelay(seconds: number): void {
    replaceFile(this.#path('start-delay'), String(Math.round(seconds * 1000)));
  }

  /** How often the runtime has begun to give a sandbox its network. */
  cniAdds(): number {
    return this.#count('cni.log', 'ADD');
  }

  cniDels(): number {
    return this.#count('cni.log', 'DEL');
  }

  /** How often the OCI runtime was told to create a container (sandboxes not counted). */
  ociCreates(): number {
    return this.#count('oci.log', 'create');
  }

  /** How many of the above, CNI ADDs and OCI creates together, have been under way at once at the most. */
  mostAtOnce(): number {
    let now = 0;
    let most = 0;
    for (const line of read(this.#path('under-way.log')).split('\n')) {
      if (line === 'begun') now += 1;
      if (line === 'ended') now -= 1;
      most = Math.max(most, now);
    }
    return most;
  }

  /**
   * From here on CreateContainer of the image `images.volume` does not end until the gate is opened, while everything else
   * is served. The kernel opens the gate by itself after /proc/sys/fs/lease-break-time (45 s by default).
   *
   * A write lease on the file containerd copies into the volume: open(2) of it blocks until the lease is given back, see
   * fcntl(2), "Leases".
   */
  async blockCreates(): Promise<CreateGate> {
    const script = `
      open(my $file, '+<', $ARGV[0]) or die "open: $!";
      $| = 1;
      $SIG{IO} = sub { print "reached\\n" };
      fcntl($file, F_SETLEASE, F_WRLCK) or die "lease: $!";
      print "held\\n";
      <STDIN>;`;
    const gate = spawn('perl', ['-Mstrict', '-MFcntl=F_SETLEASE,F_WRLCK', '-e', script, this.#volumeFile()], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#gate = gate;
    let output = '';
    gate.stdout.on('data', (chunk: Buffer) => {
      output += chunk.toString();
    });
    const printed = (word: string): Promise<boolean> =>
      until(`the lease is ${word}`, () => {
        if (gate.exitCode !== null) throw new Error('the lease on the image volume could not be taken');
        return output.includes(word);
      });
    await printed('held');
    return {
      reached: () => printed('reached').then(() => undefined),
      open: async () => {
        if (gate.exitCode !== null) return;
        const exit = once(gate, 'exit');
        gate.stdin.end();
        await exit;
      },
    };
  }

  /** What containerd has logged so far. */
  log(): string {
    return read(this.#path('containerd.log'));
  }

  async importImages(): Promise<void> {
    const archive = this.#path('images.tar');
    writeImageArchive(archive, find('busybox') ?? 'busybox');
    execFileSync('ctr', ['--address', this.socket, '--namespace', 'k8s.io', 'images', 'import', archive], {
      env: environment,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    fs.rmSync(archive);
    // The CRI learns of images by event.
    await until('the CRI lists the images', async () => {
      const listed = (await this.client.call('ListImages')).images.flatMap((image) => image.repo_tags);
      return Object.values(images).every((image) => listed.includes(image));
    });
  }

  /** Ends everything that is this instance's and removes its files. Safe at any moment, and more than once. */
  async cleanUp(): Promise<void> {
    if (!fs.existsSync(this.directory)) return;
    replaceFile(this.#path('cni-hang'), '0');
    this.setCniDelay(0);
    this.setCniDelDelay(0);
    this.setStartDelay(0);
    this.#gate?.kill('SIGKILL');
    try {
      if (this.#process === undefined) await this.start();
      else this.resume();
      const { items } = await this.client.call('ListPodSandbox', {}, { deadlineMs: 5000 });
      await Promise.all(items.map(({ id }) => this.#removePod(id)));
    } catch {
      // What could not be removed in good order is removed by force.
    }
    await this.kill();
    this.client.close();
    await until('the instance is removed', () => removeInstance(this.directory));
  }

  async #removePod(id: string): Promise<void> {
    await this.client.call('StopPodSandbox', { pod_sandbox_id: id }, { deadlineMs: 10_000 });
    await this.client.call('RemovePodSandbox', { pod_sandbox_id: id }, { deadlineMs: 10_000 });
  }

  #path(name: string): string {
    return path.join(this.directory, name);
  }

  #count(log: string, word: string): number {
    return read(this.#path(log))
      .split('\n')
      .filter((line) => line.startsWith(`${word} `)).length;
  }

  /** The `volume` image's file in the snapshot that all containers have as their lowest layer. */
  #volumeFile(): string {
    const snapshots = this.#path('root/io.containerd.snapshotter.v1.overlayfs/snapshots');
    const files = fs.readdirSync(snapshots).map((snapshot) => path.join(snapshots, snapshot, 'fs', volumeFile));
    const file = files.find((candidate) => fs.existsSync(candidate));
    if (file === undefined) throw new Error('the image with a volume has not been unpacked');
    return file;
  }

  /** A bridge of its own without an address on the host, so that instances may share address ranges. */
  #writeNetwork(): void {
    const name = path.basename(this.directory);
    const plugins = cniPlugins() ?? '';
    for (const directory of ['cni/bin', 'cni/conf', 'cni/hangs'])
      fs.mkdirSync(this.#path(directory), { recursive: true });
    for (const plugin of ['host-local', 'loopback']) {
      fs.symlinkSync(path.join(plugins, plugin), this.#path(`cni/bin/${plugin}`));
    }
    writeScript(
      this.#path('cni/bin/slowbridge'),
      `[ "$CNI_COMMAND" = VERSION ] || echo "$CNI_COMMAND $CNI_CONTAINERID" >>'${this.#path('cni.log')}'
bridge='${path.join(plugins, 'bridge')}'
[ "$CNI_COMMAND" != DEL ] || wait_for '${this.#path('cni-del-delay')}'
[ "$CNI_COMMAND" = ADD ] || exec "$bridge"
pod=\${CNI_ARGS##*K8S_POD_NAME=}
hangs='${this.#path('cni/hangs')}'/\${pod%%;*}
if [ -e "$hangs" ]; then
  [ "$(cat "$hangs")" != once ] || rm "$hangs"
  wait_for '${this.#path('cni-hang')}'
fi
under_way '${this.#path('under-way.log')}' '${this.#path('cni-delay')}' "$bridge"`,
    );
    this.setCniDelay(0);
    this.setCniDelDelay(0);
    replaceFile(this.#path('cni-hang'), String(Number.MAX_SAFE_INTEGER));
    const octet = (): number => Math.floor(Math.random() * 256);
    const conflist = {
      cniVersion: '0.4.0',
      name,
      plugins: [
        {
          type: 'slowbridge',
          bridge: name,
          ipam: {
            type: 'host-local',
            dataDir: this.#path('cni/ipam'),
            ranges: [[{ subnet: `10.${octet()}.${octet()}.0/24` }]],
          },
        },
      ],
    };
    fs.writeFileSync(this.#path('cni/conf/10-slow.conflist'), JSON.stringify(conflist));
  }

  #writeRuntime(): void {
    writeScript(
      this.#path('slowrunc'),
      `bundle= command=
for word; do
  [ "$last" != --bundle ] || bundle=$word
  [ "$word" != create ] || command=create
  last=$word
done
runc='${find('runc') ?? 'runc'}'
if [ "$command" = create ] && ! grep -q '"io.kubernetes.cri.container-type":"sandbox"' "$bundle/config.json"; then
  echo "create $last" >>'${this.#path('oci.log')}'
  under_way '${this.#path('under-way.log')}' '${this.#path('start-delay')}' "$runc" "$@"
fi
exec "$runc" "$@"`,
    );
    this.setStartDelay(0);
  }

  #config(): string {
    return containerdConfig(containerdVersion(), {
      root: this.#path('root'),
      state: this.#path('state'),
      socket: this.socket,
      opt: this.#path('opt'),
      sandboxImage: images.pause,
      cniBin: this.#path('cni/bin'),
      cniConf: this.#path('cni/conf'),
      runc: this.#path('slowrunc'),
      runcRoot: this.#path('runc'),
    });
  }
}

export interface CreateGate {
  /** Resolves when a CreateContainer has come as far as the gate. */
  reached(): Promise<void>;
  open(): Promise<void>;
}

/**
 * A script with `under_way LOG FILE COMMAND…`: waits until as many milliseconds as the file says have passed, then runs the command
 * and exits as it did. The log has a `begun` before and an `ended` after.
 */
function writeScript(file: string, body: string): void {
  const script = `#!${find('bash') ?? '/bin/bash'}
wait_for() {
  local begin=\${EPOCHREALTIME/[.,]/} delay silence
  exec {silence}<> <(:)
  while read -r delay <"$1" || true; [ $((\${EPOCHREALTIME/[.,]/} - begin)) -lt $((delay * 1000)) ]; do
    read -r -t 0.02 -u "$silence" || true
  done
  exec {silence}>&-
}
under_way() {
  local log=$1 delay=$2 code=0
  shift 2
  echo begun >>"$log"
  wait_for "$delay"
  "$@" || code=$?
  echo ended >>"$log"
  exit $code
}
${body}
`;
  fs.writeFileSync(file, script, { mode: 0o755 });
}

/** Readers see the old content or the new, never half of it. */
function replaceFile(file: string, content: string): void {
  fs.writeFileSync(`${file}.new`, content);
  fs.renameSync(`${file}.new`, file);
}

function read(file: string): string {
  return fs.existsSync(file) ? fs.readFileSync(file, 'utf8') : '';
}

/** Removes what test processes that were killed have left behind. */
async function sweep(): Promise<void> {
  for (const name of fs.readdirSync(os.tmpdir()).filter((entry) => entry.startsWith(prefix))) {
    const directory = path.join(os.tmpdir(), name);
    const [pid, time] = read(path.join(directory, 'owner')).split(' ');
    if (time === undefined || fs.lstatSync(directory).uid !== 0 || startTime(Number(pid)) === time) continue;
    try {
      await until('it is removed', () => removeInstance(directory), 5000);
    } catch {
      // Another test process is at it, or what is left is not in the way.
    }
  }
}

/** When a process started, in clock ticks; with the pid it tells one process from all others. Undefined: no such process. */
function startTime(pid: number): string | undefined {
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  } catch {
    return undefined;
  }
}

/**
 * Removes what an instance without its containerd still has: shims, containers, mounts, cgroups, bridge, files.
 *
 * @returns Whether nothing is left; ask again if not, since processes take a moment to end.
 */
function removeInstance(directory: string): boolean {
  const name = path.basename(directory);
  const cgroups = cgroupsOf(name);
  const pids = [...pidsNaming(`${directory}/`), ...cgroups.flatMap((cgroup) => pidsIn(cgroup))];
  for (const pid of pids) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // Gone already.
    }
  }
  if (pids.length > 0) return false;
  const mounts = fs
    .readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .flatMap((line) => line.split(' ')[4] ?? [])
    .filter((mountPoint) => mountPoint.startsWith(`${directory}/`));
  if (mounts.length > 0) execFileSync('umount', ['--lazy', ...mounts.reverse()], { env: environment });
  for (const cgroup of cgroups) fs.rmdirSync(cgroup);
  if (fs.existsSync(`/sys/class/net/${name}`)) execFileSync('ip', ['link', 'del', name], { env: environment });
  const sandboxes = read(path.join(directory, 'cni.log'))
    .split('\n')
    .flatMap((line) => line.split(' ')[1] ?? []);
  for (const file of list(cniCache)) {
    if (sandboxes.some((id) => file.includes(`-${id}-`))) fs.rmSync(path.join(cniCache, file));
  }
  for (const address of shimAddresses(path.join(directory, 'state'))) fs.rmSync(address, { force: true });
  fs.rmSync(directory, { recursive: true, force: true });
  return true;
}

/** All cgroups of an instance, in every hierarchy, the innermost first. */
function cgroupsOf(name: string): string[] {
  const hierarchies = ['/sys/fs/cgroup', ...list('/sys/fs/cgroup').map((entry) => `/sys/fs/cgroup/${entry}`)];
  const below = (cgroup: string): string[] => {
    const children = fs.readdirSync(cgroup, { withFileTypes: true }).filter((entry) => entry.isDirectory());
    return [...children.flatMap((child) => below(path.join(cgroup, child.name))), cgroup];
  };
  return hierarchies
    .map((hierarchy) => path.join(hierarchy, name))
    .filter((cgroup) => fs.existsSync(cgroup))
    .flatMap(below);
}

function pidsIn(cgroup: string): number[] {
  return read(path.join(cgroup, 'cgroup.procs')).split('\n').filter(Boolean).map(Number);
}

/** Processes with this text in their command line, except this one. */
function pidsNaming(text: string): number[] {
  return list('/proc')
    .map(Number)
    .filter((pid) => pid > 0 && pid !== process.pid)
    .filter((pid) => {
      try {
        return fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(text);
      } catch {
        return false;
      }
    });
}

/** The sockets of shims that had no time to remove them; containerd keeps them outside of its state. */
function shimAddresses(state: string): string[] {
  const tasks = path.join(state, 'io.containerd.runtime.v2.task/k8s.io');
  return list(tasks)
    .map((id) => shimAddress(path.join(tasks, id)))
    .filter((address) => address.startsWith('unix:///'))
    .map((address) => address.slice('unix://'.length));
}

/** containerd 1.x has it in a file of its own, 2.x in one with what else it knows of the shim. */
function shimAddress(task: string): string {
  const [, address] = /"address":"([^"]*)"/.exec(read(path.join(task, 'bootstrap.json'))) ?? [];
  return address ?? read(path.join(task, 'address'));
}

function list(directory: string): string[] {
  return fs.existsSync(directory) ? fs.readdirSync(directory) : [];
}

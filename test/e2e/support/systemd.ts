/**
 * A real systemd of the test's own, as the first process of new namespaces; root, no reboot. It knows no units but those of the test
 * and empty targets in the place of those that every unit depends on: with the machine's own, sysinit.target would come, and with it
 * what empties /tmp and sets up the machine. It can write nowhere but in the test's directory: /etc, /opt, /usr/local and /var are
 * copies that go with it, /run and /tmp are its own, and everything else is read-only.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Test } from 'tap';
import { missingPrograms } from './programs.js';
import { until } from './until.js';

const systemd = '/lib/systemd/systemd';
const repository = fileURLToPath(new URL('../../..', import.meta.url));
/** Where a unit sees the test's directory, also one that has a /tmp of its own. */
export const inside = '/run/test';
/** Where it sees the machine's /tmp; its own is empty. */
export const machineTmp = '/run/machine-tmp';

const targets = ['sysinit', 'basic', 'sockets', 'timers', 'multi-user', 'shutdown', 'umount'];

/** $1: the test's directory. $2: the repository. $3: Node. */
const boot = `
set -e
dir=$1 repository=$2 node=$3
mount -t tmpfs tmpfs /run
mkdir -p /run/lock /run/systemd ${inside}
mount --bind "$dir" ${inside}
for changed in /etc /opt /usr/local /var; do
  mkdir -p "$dir/copies$changed" "$dir/work$changed"
  mount -t overlay overlay -o "lowerdir=$changed,upperdir=$dir/copies$changed,workdir=$dir/work$changed" "$changed"
done
mkdir -p /opt/holdfast/bin /opt/holdfast/repository
touch /opt/holdfast/bin/node
mount --bind "$node" /opt/holdfast/bin/node
mount --bind "$repository" /opt/holdfast/repository
if [ -d /sys/fs/cgroup/systemd ]; then
  umount -l /sys/fs/cgroup/*/ /sys/fs/cgroup 2>/dev/null || true
  mount -t tmpfs tmpfs /sys/fs/cgroup
  mkdir /sys/fs/cgroup/systemd
  mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
else
  umount -l /sys/fs/cgroup
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
fi
mkdir ${machineTmp}
mount --bind /tmp ${machineTmp}
mount -o remount,bind,ro ${machineTmp}
mount -t tmpfs tmpfs /tmp
# systemd's own log.
mkfifo ${inside}/log
mount --bind ${inside}/log /dev/kmsg
cat <>/dev/kmsg &
mount --bind /proc/sys /proc/sys
while read -r _ place _; do
  case $place in
    /proc/sys) ;;
    /proc | /proc/* | /dev | /dev/* | /run | /run/* | /tmp | /etc | /opt | /usr/local | /var | /sys/fs/cgroup*) continue ;;
  esac
  mount -o remount,bind,ro "$place" 2>/dev/null || true
done </proc/self/mounts
# Proven, since all that follows relies on it.
for place in / /usr ${machineTmp}; do ! touch "$place/probe.$$" 2>/dev/null; done
exec env -i container=unshare PATH="$PATH" SYSTEMD_UNIT_PATH=${inside}/units SYSTEMD_LOG_LEVEL=info \\
  ${systemd} --system --unit=multi-user.target --log-target=kmsg --show-status=false`;

/** Why systemd cannot be run here. */
export function missingSystemd(): string | undefined {
  if (process.platform !== 'linux') return 'needs Linux';
  if (process.getuid?.() !== 0) return 'needs root';
  return missingPrograms(systemd, 'systemctl', 'systemd-notify', 'unshare', 'nsenter', 'setpriv');
}

/** Boots; everything ends and goes with the test. */
export async function startSystemd(t: Test): Promise<Systemd> {
  const booted = new Systemd();
  t.teardown(async () => {
    if (!t.passing()) t.comment(`end of systemd's log:\n${booted.log.slice(-60).join('\n')}`);
    await booted.end();
  });
  await booted.boot();
  return booted;
}

export class Systemd {
  /** Seen as `inside` from inside. Its owner is the test. */
  readonly directory = fs.mkdtempSync(path.join(os.tmpdir(), 'hfsd-'));
  /** Lines that systemd has written so far. */
  readonly log: string[] = [];
  readonly #cgroups: readonly string[];
  #unshare: ChildProcess | undefined;
  #pid = 0;

  constructor() {
    fs.mkdirSync(path.join(this.directory, 'units'));
    for (const name of targets) this.writeUnit(`${name}.target`, `[Unit]\nDescription=${name}\n`);
    this.writeUnit('service.d/10-output.conf', `[Service]\nStandardOutput=append:${inside}/services.log\n`);
    this.#cgroups = ownCgroups(path.basename(this.directory));
  }

  /** @param name As `x.service`, or of a drop-in `x.service.d/10-y.conf`. It counts at the next `daemon-reload`. */
  writeUnit(name: string, text: string): void {
    const file = path.join(this.directory, 'units', name);
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(file, text);
  }

  /** @param file Absolute, below /etc, /opt, /usr/local or /var; not before `boot`. */
  writeFile(file: string, text: string, mode = 0o644): void {
    const seen = this.path(file);
    fs.mkdirSync(path.dirname(seen), { recursive: true });
    fs.writeFileSync(seen, text, { mode });
  }

  /** @returns Where the test finds what is at this path inside. */
  path(file: string): string {
    return `/proc/${this.#pid}/root${file}`;
  }

  async boot(): Promise<void> {
    const program = ['unshare', '--kill-child=KILL', '--pid', '--fork', '--mount', '--uts', '--ipc', '--cgroup'];
    const place = ['--mount-proc', '--propagation', 'private'];
    // Its cgroup namespace begins where it is, so it goes there first.
    const joins = this.#cgroups.map((cgroup) => `echo $$ >${cgroup}/cgroup.procs`).join('; ');
    const args = ['sh', '-c', `${joins}; exec "$@"`, 'sh', 'setpriv', '--pdeathsig', 'KILL', ...program, ...place];
    const [command = '', ...rest] = [...args, 'bash', '-c', boot, 'bash', this.directory, repository, process.execPath];
    const unshare = spawn(command, rest, { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#unshare = unshare;
    for (const stream of [unshare.stdout, unshare.stderr]) {
      stream.on('data', (chunk: Buffer) => this.log.push(...chunk.toString().trimEnd().split('\n')));
    }
    await until('systemd answers', async () => {
      if (unshare.exitCode !== null) throw new Error(`systemd ended:\n${this.log.join('\n')}`);
      this.#pid = Number(read(`/proc/${unshare.pid}/task/${unshare.pid}/children`).trim());
      if (this.#pid === 0 || !read(`/proc/${this.#pid}/comm`).startsWith('systemd')) return false;
      return this.systemctl('is-active', 'multi-user.target').catch(() => false);
    });
  }

  /** @returns What it wrote to stdout. @throws It failed. */
  async run(...command: readonly string[]): Promise<string> {
    const args = ['-t', String(this.#pid), '-a', '--', ...command];
    return (await promisify(execFile)('nsenter', args, { env: { PATH: process.env.PATH } })).stdout.trim();
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

  /** What services have written to stdout and stderr. */
  output(): string {
    return read(path.join(this.directory, 'services.log'));
  }

  async end(): Promise<void> {
    const unshare = this.#unshare;
    if (unshare !== undefined && unshare.exitCode === null && unshare.signalCode === null) {
      const exit = once(unshare, 'exit');
      unshare.kill('SIGKILL');
      await exit;
    }
    await until('its cgroups are removed', () => this.#cgroups.map(removeCgroup).every(Boolean));
    fs.rmSync(this.directory, { recursive: true, force: true });
  }
}

/** One in each hierarchy, so that it touches nobody else's. */
function ownCgroups(name: string): string[] {
  const root = '/sys/fs/cgroup';
  const hierarchies = fs.existsSync(`${root}/cgroup.procs`)
    ? [root]
    : fs.readdirSync(root).map((hierarchy) => `${root}/${hierarchy}`);
  return hierarchies
    .filter((hierarchy) => fs.existsSync(`${hierarchy}/cgroup.procs`))
    .map((hierarchy) => {
      const cgroup = `${hierarchy}/${name}`;
      fs.mkdirSync(cgroup);
      // Of cpuset; in a new one nothing may run.
      for (const file of ['cpuset.cpus', 'cpuset.mems']) {
        if (fs.existsSync(`${cgroup}/${file}`) && read(`${hierarchy}/${file}`).trim() !== '') {
          fs.writeFileSync(`${cgroup}/${file}`, read(`${hierarchy}/${file}`));
        }
      }
      return cgroup;
    });
}

function removeCgroup(cgroup: string): boolean {
  try {
    for (const entry of fs.readdirSync(cgroup, { withFileTypes: true })) {
      if (entry.isDirectory()) removeCgroup(path.join(cgroup, entry.name));
    }
    fs.rmdirSync(cgroup);
  } catch {
    // Not empty yet.
  }
  return !fs.existsSync(cgroup);
}

/** The processes below one, by the number that their own namespace has for them. */
function pidsInside(pid: number): Map<number, number> {
  const found = new Map<number, number>();
  const children = (parent: number) =>
    read(`/proc/${parent}/task/${parent}/children`).trim().split(' ').filter(Boolean);
  const visit = (outer: number) => {
    const inner = /^NSpid:.*\s(\d+)$/m.exec(read(`/proc/${outer}/status`))?.[1];
    if (inner !== undefined) found.set(Number(inner), outer);
    for (const child of children(outer)) visit(Number(child));
  };
  visit(pid);
  return found;
}

function read(file: string): string {
  try {
    return fs.readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

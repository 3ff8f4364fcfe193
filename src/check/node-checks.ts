/** Of `holdfast check`: what else is on the node. */
import { parse } from 'yaml';
import { freeBytes, hasSocketProxy, mebibytes, neededBytes } from '../install/host-check.js';
import { isSameEndpoint } from '../install/kubelet.js';
import { holdfastEndpoint, paths } from '../install/paths.js';
import { type Found, fail, ok, warn } from './finding.js';
import type { Scene } from './scene.js';

export function pressure({ machine }: Scene): Found {
  const missing = ['cpu', 'io', 'memory'].filter((name) => {
    try {
      return machine.files.text(`/proc/pressure/${name}`) === undefined;
    } catch {
      return true;
    }
  });
  return missing.length === 0
    ? ok('the kernel tells its pressure')
    : warn(
        `the kernel does not tell its pressure (${missing.join(', ')}): admission goes by lateness alone`,
        'boot with psi=1 (CONFIG_PSI), or live with it',
      );
}

export function crictl({ machine, isBehind }: Scene): Found | undefined {
  const file = '/etc/crictl.yaml';
  const text = machine.files.text(file);
  if (text === undefined || !isBehind) return undefined;
  let said: unknown;
  try {
    said = ((parse(text) ?? {}) as Readonly<Record<string, unknown>>)['runtime-endpoint'];
  } catch {
    return warn(`${file} cannot be parsed`, `put it right; for Holdfast: runtime-endpoint: ${holdfastEndpoint}`);
  }
  return typeof said === 'string' && isSameEndpoint(said, holdfastEndpoint)
    ? ok('crictl sees what the kubelet sees')
    : warn(
        `crictl goes to ${String(said ?? 'its default')}, past Holdfast, and sees what that hides`,
        `runtime-endpoint: ${holdfastEndpoint} in ${file}, unless that is what you want`,
      );
}

/** Source: node-problem-detector's health-checker, `--cri-socket-path`, default containerd's. */
export async function problemDetector({ machine, isBehind }: Scene): Promise<Found | undefined> {
  if (!isBehind) return undefined;
  const { code, stdout } = await machine.run('systemctl', ['cat', 'node-problem-detector.service']);
  const folders = ['/etc/node-problem-detector', '/home/kubernetes/node-problem-detector/config'];
  const texts = folders.flatMap((folder) =>
    machine.files
      .names(folder)
      .filter((name) => name.endsWith('.json'))
      .map((name) => machine.files.text(`${folder}/${name}`) ?? ''),
  );
  if (code !== 0 && texts.length === 0) return undefined;
  if ([stdout, ...texts].some((text) => text.includes(paths.socket)))
    return ok('node-problem-detector watches Holdfast');
  return warn(
    "node-problem-detector watches the runtime's socket: it does not notice a dead Holdfast",
    `--cri-socket-path=${holdfastEndpoint} for its health-checker, in a second check beside the runtime's`,
  );
}

export function socketProxy({ machine }: Scene): Found {
  return hasSocketProxy(machine.files)
    ? ok('systemd-socket-proxyd can stand in for Holdfast')
    : warn(
        'systemd-socket-proxyd is not there: nothing stands in for a Holdfast that crashes again and again',
        "install the distribution's systemd package that has it",
      );
}

export function disk({ machine, isInstalled }: Scene): Found | undefined {
  const free = freeBytes(machine, '/opt');
  if (free === undefined) return undefined;
  const text = `/opt has ${mebibytes(free)} MiB left`;
  if (free >= neededBytes) return ok(text);
  const remedy = `install needs ${mebibytes(neededBytes)} MiB there: make room`;
  return isInstalled ? warn(text, remedy) : fail(text, remedy);
}

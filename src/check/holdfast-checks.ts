/** Of `holdfast check`: the program, its units and its socket. */
import type { Stats } from 'node:fs';
import { shownFault, versionWithinMs } from '../install/cri-version.js';
import { paths } from '../install/paths.js';
import { rollback } from '../install/rollback-script.js';
import { unitState } from '../install/systemctl.js';
import { consequence, type Found, fail, ok, warn } from './finding.js';
import type { Scene } from './scene.js';

/** Without them nothing comes through Holdfast. */
export const way = ['runtime-version', 'service', 'socket-unit', 'socket'];

const leastNode = { major: 20, minor: 19 };

export function installed({ isInstalled }: Scene): Found | undefined {
  return isInstalled ? undefined : warn('Holdfast is not installed on this node', 'holdfast install');
}

export async function program({ machine, isInstalled }: Scene): Promise<Found | undefined> {
  if (!isInstalled) return undefined;
  const again = 'holdfast install --stage artifacts,units';
  const ran = await machine.run(paths.launcher, ['--version']);
  if (ran.code !== 0) return fail(`${paths.launcher} does not run: ${ran.stderr.trim().split('\n')[0]}`, again);
  const node = (await machine.run(paths.node, ['--version'])).stdout.trim();
  const [, major, minor] = (/^v(\d+)\.(\d+)/.exec(node) ?? []).map(Number);
  const text = `Holdfast ${ran.stdout.trim()} runs on Node ${node}`;
  const isOld =
    major === undefined || major < leastNode.major || (major === leastNode.major && (minor ?? 0) < leastNode.minor);
  return isOld ? fail(text, `install a Node of 20.19 or later: ${again} --node FILE`) : ok(text);
}

/** The way back from an upgrade, and what it has come to. */
export function upgraded({ machine: { files } }: Scene): Found | undefined {
  if (files.has(rollback.pending) || files.has(rollback.undoing)) {
    return warn('an upgrade of Holdfast is not confirmed, and will be taken back', 'wait for it, or holdfast install');
  }
  const [time, , version] = files.text(rollback.undone)?.trim().split(' ') ?? [];
  if (time === undefined) return undefined;
  return warn(
    `the upgrade to Holdfast ${version ?? ''} was taken back (${time}): it did not do well`,
    'journalctl -u holdfast.service before that time says why; then holdfast install',
  );
}

export async function service(
  { machine, isInstalled }: Scene,
  failed: ReadonlySet<string>,
): Promise<Found | undefined | typeof consequence> {
  if (!isInstalled) return undefined;
  const unit = 'holdfast.service';
  const state = await unitState(machine, unit, 'ActiveState', 'SubState', 'Result', 'NRestarts', 'UnitFileState');
  if (state.ActiveState !== 'active') {
    if (failed.has('program') || failed.has('config')) return consequence;
    const text = `${unit} is ${state.ActiveState || 'not there'} (${state.SubState}, ${state.Result})`;
    return fail(
      text,
      `journalctl -u ${unit} says why; systemctl daemon-reload; systemctl reset-failed ${unit}; systemctl start ${unit}`,
    );
  }
  if (state.UnitFileState !== 'enabled' && state.UnitFileState !== 'static') {
    return warn(`${unit} runs, and is ${state.UnitFileState}: it does not start at boot`, `systemctl enable ${unit}`);
  }
  const restarts = Number(state.NRestarts);
  if (restarts > 0) {
    const times = restarts === 1 ? 'a restart' : `${restarts} restarts`;
    return warn(`${unit} runs, after ${times}`, `journalctl -u ${unit} says why it ended`);
  }
  return ok(`${unit} runs and starts at boot`);
}

export async function socketUnit({ machine, isInstalled }: Scene): Promise<Found | undefined> {
  const unit = 'holdfast.socket';
  const again = 'holdfast install --stage units';
  if (!isInstalled) return undefined;
  const state = await unitState(machine, unit, 'ActiveState', 'UnitFileState');
  if (!machine.files.has(`${paths.units}/${unit}`)) {
    return warn(`there is no ${unit}: nothing keeps the socket while Holdfast starts anew`, again);
  }
  if (state.ActiveState !== 'active') {
    return fail(`${unit} is ${state.ActiveState}: nothing keeps the socket while Holdfast starts anew`, again);
  }
  return state.UnitFileState === 'enabled'
    ? ok(`${unit} is active and starts at boot`)
    : warn(`${unit} is active, and ${state.UnitFileState}: it does not start at boot`, `systemctl enable ${unit}`);
}

export async function watchdog({ machine, isInstalled }: Scene): Promise<Found | undefined> {
  if (!isInstalled) return undefined;
  const { WatchdogUSec } = await unitState(machine, 'holdfast.service', 'WatchdogUSec');
  return WatchdogUSec === '' || WatchdogUSec === '0' || WatchdogUSec === 'infinity'
    ? warn('no watchdog: a Holdfast that hangs is not ended', 'holdfast install --stage units (WatchdogSec=)')
    : ok(`a Holdfast that hangs is ended after ${WatchdogUSec}`);
}

export function bypass({ machine, isInstalled }: Scene): Found | undefined {
  const why = machine.files.text(paths.bypassed)?.trim();
  if (why !== undefined) {
    return fail(
      `Holdfast is bypassed, the node is as without it: ${why}`,
      'journalctl -u holdfast.service says why it failed; systemctl start holdfast.service ends the bypass',
    );
  }
  return isInstalled ? ok('Holdfast is not bypassed') : undefined;
}

export function socket({ machine, isInstalled, runtime }: Scene): Found | undefined {
  if (!isInstalled) return undefined;
  const { files } = machine;
  const own = files.stat(paths.socket);
  if (own === undefined || !own.isSocket()) {
    return fail(
      `${paths.socket} is ${own === undefined ? 'not there' : 'no socket'}`,
      'systemctl restart holdfast.socket',
    );
  }
  const its = runtime === undefined ? undefined : files.stat(runtime);
  if (its === undefined || shownAccess(own) === shownAccess(its)) return ok(`${paths.socket} is ${shownAccess(own)}`);
  return warn(
    `${paths.socket} is ${shownAccess(own)}, and the runtime's socket is ${shownAccess(its)}`,
    'who may use one may not use the other: set SocketMode=, SocketUser= and SocketGroup= by systemctl edit holdfast.socket',
  );
}

function shownAccess({ mode, uid, gid }: Stats): string {
  return `0${(mode & 0o777).toString(8)}, of ${uid}:${gid}`;
}

export async function versionThrough({ machine, asks, isInstalled, runtime }: Scene): Promise<Found | undefined> {
  if (!isInstalled) return undefined;
  const started = machine.clock.now();
  try {
    const { runtimeName, runtimeVersion } = await asks.version(machine.files.real(paths.socket), versionWithinMs);
    const way = machine.files.has(paths.bypassed) ? 'the bypass' : 'Holdfast';
    const ms = Math.round(machine.clock.now() - started);
    return ok(`${runtimeName} ${runtimeVersion} answers through ${way}, in ${ms} ms`);
  } catch (error) {
    return fail(
      `nothing answers on ${paths.socket}: ${shownFault(error)}`,
      `see the lines above: Holdfast (journalctl -u holdfast.service) or the runtime on ${runtime} is not up`,
    );
  }
}

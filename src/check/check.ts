/** `holdfast check`: looks at everything on a node that Holdfast depends on, before it is installed and after, and changes nothing. */
import type { Stats } from 'node:fs';
import { parse } from 'yaml';
import type { HoldfastConfig } from '../config/config.js';
import { parseDuration } from '../config/kinds.js';
import { configOption, environmentName, options } from '../config/options.js';
import { resolveConfig } from '../config/resolve.js';
import { unknownVariables } from '../config/unknown-variables.js';
import { type Asks, nodeAsks } from '../install/asks.js';
import { shownFault } from '../install/cri-version.js';
import { freeBytes, hasSocketProxy, mebibytes, neededBytes } from '../install/host-check.js';
import { endpointFlag, flagOf, isSameEndpoint, processArguments, shownSource, socketOf } from '../install/kubelet.js';
import { KubeletConfigError } from '../install/kubelet-config.js';
import { kubeletHealth } from '../install/kubelet-health.js';
import { type Machine, pause } from '../install/machine.js';
import { configuredRuntime, findKubelet, type Kubelet } from '../install/node-facts.js';
import { holdfastEndpoint, paths } from '../install/paths.js';
import { runtimeThere } from '../install/platform.js';
import { readRecord } from '../install/record.js';
import { marks } from '../install/revert-script.js';
import { rollback } from '../install/rollback-script.js';
import { unitState } from '../install/systemctl.js';
import { type ServiceStart, serviceStart, valuesOf, variableOf } from '../install/unit-environment.js';
import type { Finding } from './finding.js';

export interface CheckOptions {
  readonly runtime: string | undefined;
  readonly kubeletUnit: string | undefined;
}

const versionWithinMs = 10_000;
/** A kubelet lists each second; one that is busy lists later. */
const listsWithinMs = 6_000;
/** Source: v1beta1 SetDefaults_KubeletConfiguration, `runtimeRequestTimeout`. */
const defaultRequestTimeoutMs = 120_000;
const leastNode = { major: 20, minor: 19 };

/** Of the unit: EnvironmentFile=. */
const environmentFile = '/etc/default/holdfast';
/** Names of options by those of their variables. */
const knownVariables: ReadonlyMap<string, string> = new Map(
  [...Object.values(options), configOption].map(({ name }) => [environmentName(name), name]),
);

/** What a check sees of the node. */
interface Scene {
  readonly machine: Machine;
  readonly asks: Asks;
  readonly runtime: string | undefined;
  readonly kubelet: Kubelet | undefined;
  /** What holdfast.service starts Holdfast with. */
  readonly start: ServiceStart;
  /** Of Holdfast, whole and checked; undefined where there is none, or none that is accepted. */
  readonly config: HoldfastConfig | undefined;
  readonly isInstalled: boolean;
  readonly isBehind: boolean;
}

type Found = Omit<Finding, 'group' | 'name'>;
/** What fails where another check has found the reason for it: not said, and as good a reason for others. */
const consequence = 'consequence';
type Look = (
  scene: Scene,
  failed: ReadonlySet<string>,
) => Found | undefined | typeof consequence | Promise<Found | undefined | typeof consequence>;

const ok = (text: string): Found => ({ level: 'ok', text });
const warn = (text: string, remedy: string): Found => ({ level: 'warn', text, remedy });
const fail = (text: string, remedy: string): Found => ({ level: 'fail', text, remedy });

interface Check {
  readonly group: Finding['group'];
  readonly name: string;
  readonly look: Look;
  /** Checks without whose success there is nothing to look at. */
  readonly after?: readonly string[];
}

/** Without them nothing comes through Holdfast. */
const way = ['runtime-version', 'service', 'socket-unit', 'socket'];

const checks: readonly Check[] = [
  { group: 'runtime', name: 'runtime-version', look: runtimeVersion },
  { group: 'holdfast', name: 'installed', look: installed },
  { group: 'holdfast', name: 'program', look: program },
  { group: 'holdfast', name: 'config', look: config },
  { group: 'holdfast', name: 'environment', look: environment },
  { group: 'holdfast', name: 'bypass', look: bypass },
  { group: 'holdfast', name: 'service', look: service, after: ['bypass'] },
  { group: 'holdfast', name: 'upgrade', look: upgraded },
  { group: 'holdfast', name: 'socket-unit', look: socketUnit },
  { group: 'holdfast', name: 'watchdog', look: watchdog },
  { group: 'holdfast', name: 'socket', look: socket, after: ['socket-unit'] },
  { group: 'holdfast', name: 'version-through', look: versionThrough, after: way },
  { group: 'kubelet', name: 'kubelet', look: kubeletWell, after: ['configuration'] },
  { group: 'kubelet', name: 'confirmed', look: confirmed },
  { group: 'kubelet', name: 'endpoint', look: endpoint, after: ['confirmed'] },
  { group: 'kubelet', name: 'process', look: runningEndpoint },
  { group: 'kubelet', name: 'lists', look: lists, after: [...way, 'version-through', 'kubelet', 'process', 'bypass'] },
  { group: 'kubelet', name: 'deadline', look: deadline },
  { group: 'kubelet', name: 'crio-stats', look: crioStats },
  { group: 'node', name: 'pressure', look: pressure },
  { group: 'node', name: 'crictl', look: crictl },
  { group: 'node', name: 'node-problem-detector', look: problemDetector },
  { group: 'node', name: 'socket-proxy', look: socketProxy },
  { group: 'node', name: 'disk', look: disk },
];

export async function check(machine: Machine, options: CheckOptions, asks: Asks = nodeAsks): Promise<Finding[]> {
  const { files } = machine;
  let kubelet: Kubelet | undefined;
  const found: Finding[] = [];
  try {
    kubelet = await findKubelet(machine, options.kubeletUnit ?? readRecord(files)?.kubeletUnit);
  } catch (error) {
    if (!(error instanceof KubeletConfigError)) throw error;
    const remedy = 'put it right: the kubelet does not start with it';
    found.push({ group: 'kubelet', name: 'configuration', ...fail(error.message, remedy) });
  }
  const start = await serviceStart(machine);
  const [config] = holdfastConfig(machine, start);
  const told =
    socketOf(variableOf(start, 'runtime')?.value ?? '') ??
    configuredRuntime(files.text(paths.config)) ??
    (readRecord(files)?.runtime || undefined);
  const isBehind = kubelet !== undefined && isSameEndpoint(kubelet.setup.endpoint, holdfastEndpoint);
  const used = kubelet === undefined || isBehind ? undefined : socketOf(kubelet.setup.endpoint);
  const scene: Scene = {
    machine,
    asks,
    runtime: options.runtime ?? told ?? used ?? runtimeThere(files),
    kubelet,
    start,
    config,
    isInstalled: files.has(`${paths.units}/holdfast.service`) || files.has(paths.launcher),
    isBehind,
  };
  const failed = new Set(found.map(({ name }) => name));
  for (const { group, name, look, after = [] } of checks) {
    if (after.some((other) => failed.has(other))) continue;
    const finding = await look(scene, failed);
    if (finding === consequence || finding?.level === 'fail') failed.add(name);
    if (finding !== undefined && finding !== consequence) found.push({ group, name, ...finding });
  }
  const order = [...new Set(checks.map(({ group }) => group))];
  return found.sort((a, b) => order.indexOf(a.group) - order.indexOf(b.group));
}

/** As the service would have it. */
function holdfastConfig(
  { files }: Machine,
  start: ServiceStart,
): [config: HoldfastConfig | undefined, fault: string | undefined] {
  const { config: file, ...argv } = start.argv;
  const read = file === undefined ? {} : { config: files.real(file) };
  try {
    return [resolveConfig({ argv: { ...argv, ...read }, env: valuesOf(start), willBePassed: true }), undefined];
  } catch (error) {
    return [undefined, error instanceof Error ? error.message : String(error)];
  }
}

/** @param text Of a configuration. @returns As written; nothing where it cannot be read, which another check says. */
function settingsIn(text: string | undefined): ReadonlyMap<string, string> {
  try {
    const settings: unknown = parse(text ?? '', { schema: 'failsafe' });
    return new Map(Object.entries(settings ?? {}).map(([name, value]) => [name, String(value)]));
  } catch {
    return new Map();
  }
}

async function runtimeVersion({ machine, asks, runtime }: Scene): Promise<Found> {
  if (runtime === undefined)
    return fail('no container runtime is to be seen', 'start it, or say its socket: --runtime');
  try {
    const { runtimeName, runtimeVersion, apiVersion } = await asks.version(
      machine.files.real(runtime),
      versionWithinMs,
    );
    const text = `${runtimeName} ${runtimeVersion} answers on ${runtime}, CRI ${apiVersion}`;
    return apiVersion === 'v1' ? ok(text) : warn(text, 'kubelets since 1.26 speak v1 only: upgrade the runtime');
  } catch (error) {
    return fail(
      `the runtime does not answer on ${runtime}: ${shownFault(error)}`,
      'start it (systemctl status containerd crio), or say its socket: --runtime',
    );
  }
}

function installed({ isInstalled }: Scene): Found | undefined {
  return isInstalled ? undefined : warn('Holdfast is not installed on this node', 'holdfast install');
}

async function program({ machine, isInstalled }: Scene): Promise<Found | undefined> {
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

function config({ machine, isInstalled, runtime, start }: Scene): Found | undefined {
  if (!isInstalled) return undefined;
  const [read, fault] = holdfastConfig(machine, start);
  const place = (option: string) => variableOf(start, option)?.file ?? paths.config;
  if (read === undefined)
    return fail(`${paths.config}: ${fault}`, `put that right, then systemctl restart holdfast.service`);
  if (read.listen !== paths.socket) {
    return fail(
      `${place('listen')} says listen ${read.listen}, and the kubelet is told ${paths.socket}`,
      `set listen: ${paths.socket}, then systemctl restart holdfast.service`,
    );
  }
  if (runtime !== undefined && socketOf(read.runtime) !== socketOf(runtime)) {
    return fail(
      `${place('runtime')} says runtime ${read.runtime}, and the runtime is at ${runtime}`,
      `set runtime: ${runtime}, then systemctl restart holdfast.service`,
    );
  }
  return ok(`${paths.config} is accepted`);
}

/** A variable beats the file, and nobody who reads that sees it. */
function environment({ machine, isInstalled, start }: Scene): Found | undefined {
  if (!isInstalled) return undefined;
  const file = start.argv[configOption.name];
  const settings = settingsIn(file === undefined ? undefined : machine.files.text(file));
  const unknown = new Map(unknownVariables(valuesOf(start)).map(({ variable, nearest }) => [variable, nearest]));
  const said: string[] = [];
  for (const { name, value, file: place, isOfFile } of start.variables) {
    if (value === '' || !(unknown.has(name) || knownVariables.has(name))) continue;
    const option = knownVariables.get(name) ?? '';
    const inFile = settings.get(option);
    const nearest = unknown.get(name);
    if (unknown.has(name)) {
      const meant = nearest === undefined ? '' : ` (did you mean ${nearest}?)`;
      said.push(`${name} in ${place} is no option of Holdfast${meant}`);
    } else if (start.argv[option] !== undefined) {
      said.push(`${name} in ${place} has no effect: the unit's command line has --${option}`);
    } else if (inFile !== undefined && inFile !== value) {
      said.push(`${name}=${value} in ${place} beats ${option}: ${inFile} in ${file}`);
    } else if (option === options.runtime.name && !isOfFile) {
      said.push(`${name}=${value} in ${place} is not known to the bypass, which goes elsewhere`);
    }
  }
  if (said.length > 0) {
    return warn(
      said.join('; '),
      `set each option in one place, ${paths.config} or ${environmentFile}, then systemctl restart holdfast.service`,
    );
  }
  const count = start.variables.filter(({ name, value }) => value !== '' && knownVariables.has(name)).length;
  return count === 0 ? undefined : ok(`options in the environment of holdfast.service: ${count}`);
}

/** The way back from an upgrade, and what it has come to. */
function upgraded({ machine: { files } }: Scene): Found | undefined {
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

async function service(
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

async function socketUnit({ machine, isInstalled }: Scene): Promise<Found | undefined> {
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

async function watchdog({ machine, isInstalled }: Scene): Promise<Found | undefined> {
  if (!isInstalled) return undefined;
  const { WatchdogUSec } = await unitState(machine, 'holdfast.service', 'WatchdogUSec');
  return WatchdogUSec === '' || WatchdogUSec === '0' || WatchdogUSec === 'infinity'
    ? warn('no watchdog: a Holdfast that hangs is not ended', 'holdfast install --stage units (WatchdogSec=)')
    : ok(`a Holdfast that hangs is ended after ${WatchdogUSec}`);
}

function bypass({ machine, isInstalled }: Scene): Found | undefined {
  const why = machine.files.text(paths.bypassed)?.trim();
  if (why !== undefined) {
    return fail(
      `Holdfast is bypassed, the node is as without it: ${why}`,
      'journalctl -u holdfast.service says why it failed; systemctl start holdfast.service ends the bypass',
    );
  }
  return isInstalled ? ok('Holdfast is not bypassed') : undefined;
}

function isBypassed({ files }: Machine): boolean {
  return files.has(paths.bypassed);
}

function socket({ machine, isInstalled, runtime }: Scene): Found | undefined {
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

async function versionThrough({ machine, asks, isInstalled, runtime }: Scene): Promise<Found | undefined> {
  if (!isInstalled) return undefined;
  const started = machine.clock.now();
  try {
    const { runtimeName, runtimeVersion } = await asks.version(machine.files.real(paths.socket), versionWithinMs);
    const way = isBypassed(machine) ? 'the bypass' : 'Holdfast';
    const ms = Math.round(machine.clock.now() - started);
    return ok(`${runtimeName} ${runtimeVersion} answers through ${way}, in ${ms} ms`);
  } catch (error) {
    return fail(
      `nothing answers on ${paths.socket}: ${shownFault(error)}`,
      `see the lines above: Holdfast (journalctl -u holdfast.service) or the runtime on ${runtime} is not up`,
    );
  }
}

async function kubeletWell(
  { machine, asks, kubelet, isBehind }: Scene,
  failed: ReadonlySet<string>,
): Promise<Found | typeof consequence> {
  if (kubelet === undefined) {
    return warn('no unit of a kubelet is to be seen', 'name it if there is one: --kubelet-unit');
  }
  const { unit } = kubelet.sources;
  const { trouble } = await kubeletHealth(machine, unit, kubelet.setup.config, asks.healthz);
  const { ActiveState } = await unitState(machine, unit, 'ActiveState');
  // One that is started again and again, or not healthy, misses its runtime; one that does not run at all was stopped.
  const misses =
    failed.has('runtime-version') || (isBehind && [...way, 'version-through'].some((name) => failed.has(name)));
  if (trouble !== undefined && misses && ['active', 'activating'].includes(ActiveState)) return consequence;
  return trouble === undefined
    ? ok(`${unit} is well`)
    : fail(`the kubelet is not well: ${trouble}`, `journalctl -u ${unit}`);
}

function endpoint({ kubelet, isInstalled, isBehind }: Scene): Found | undefined {
  if (kubelet === undefined) return undefined;
  const { setup } = kubelet;
  const text = `the kubelet's endpoint is ${setup.endpoint} (${shownSource(setup.from)})`;
  if (isBehind && !isInstalled)
    return fail(`${text}, and Holdfast is not installed`, 'holdfast install, or holdfast uninstall');
  if (isBehind || !isInstalled) return ok(text);
  return fail(`${text}: it is not behind Holdfast`, 'holdfast install --stage switch');
}

/** What it was started with need not be what it would be started with now. */
async function runningEndpoint({ machine, kubelet }: Scene): Promise<Found | undefined> {
  if (kubelet === undefined || kubelet.sources.ownConfigDir !== undefined) return undefined;
  const { unit } = kubelet.sources;
  const { setup } = kubelet;
  const { MainPID } = await unitState(machine, unit, 'MainPID');
  const origin = { kind: 'exec-start', file: '', raw: '' } as const;
  const words = processArguments(machine, MainPID)?.map((text) => ({ text, origin }));
  if (words === undefined) return undefined;
  const flag = flagOf(words, endpointFlag)?.value;
  if (flag !== undefined && !isSameEndpoint(flag, setup.endpoint)) {
    return fail(
      `the running kubelet has ${endpointFlag}=${flag}, and not ${setup.endpoint}`,
      setup.from.kind === 'flag'
        ? `it was started before that changed: systemctl restart ${unit}`
        : `something beside ${unit} gives it this flag, which wins: change it there`,
    );
  }
  const file =
    setup.from.kind === 'flag' ? setup.from.word.origin.file : setup.from.kind === 'default' ? '' : setup.from.file;
  const [changed, started] = [machine.files.stat(file)?.mtimeMs, machine.files.stat(`/proc/${MainPID}`)?.ctimeMs];
  if (changed !== undefined && started !== undefined && changed > started + 1_000) {
    return fail(`${file} was changed after the kubelet was started`, `systemctl restart ${unit}`);
  }
  return ok('the running kubelet was started with it');
}

async function lists({ machine, asks, isInstalled, isBehind }: Scene): Promise<Found | undefined> {
  if (!isInstalled || !isBehind) return undefined;
  const before = await asks.lists(machine);
  if (before === undefined) {
    return warn(
      `Holdfast does not tell its calls, so that nobody can see whether the kubelet came`,
      `set admin: unix://${paths.adminSocket} in ${paths.config}`,
    );
  }
  for (const until = machine.clock.now() + listsWithinMs; machine.clock.now() < until; ) {
    await pause(machine, 500);
    const now = await asks.lists(machine);
    if (now !== undefined && now > before) return ok("the kubelet's lists come through Holdfast");
  }
  return fail(
    `no list of pod sandboxes came through Holdfast in ${listsWithinMs / 1000} s`,
    'the kubelet is not connected: restart it, and see its journal for the endpoint that it dials',
  );
}

function confirmed({ machine, isBehind }: Scene): Found | undefined {
  const { files } = machine;
  if (files.has(marks.unconfirmed) || files.has(marks.reverting)) {
    return warn('the switch to Holdfast is not confirmed, and will be taken back', 'holdfast install waits for it');
  }
  const time = files.text(marks.reverted)?.trim();
  if (time === undefined || isBehind) return undefined;
  return fail(
    `the last switch to Holdfast was taken back (${time}): the kubelet did not do well behind it`,
    'journalctl -u holdfast.service and of the kubelet before that time; then holdfast install --stage switch',
  );
}

function deadline({ kubelet, config }: Scene): Found | undefined {
  if (kubelet === undefined) return undefined;
  const said =
    flagOf(kubelet.setup.words, '--runtime-request-timeout')?.value ?? kubelet.setup.config.runtimeRequestTimeout;
  const timeoutMs = (typeof said === 'string' ? parseDuration(said) : undefined) || defaultRequestTimeoutMs;
  const creationMs = config?.creationTimeoutMs ?? 900_000;
  // A kubelet gives a pod sandbox twice its runtimeRequestTimeout.
  const text = `the kubelet waits ${timeoutMs / 1000} s (pod sandboxes twice that), Holdfast ${creationMs / 1000} s`;
  return creationMs > 2 * timeoutMs
    ? ok(text)
    : warn(
        `${text}: work would not outlive its first caller`,
        `raise creation-timeout in ${paths.config}, or leave the kubelet's runtimeRequestTimeout at 2m`,
      );
}

/** Source: kubelet `UsingLegacyCadvisorStats`: only an endpoint that ends in `run/crio/crio.sock` makes it take them from cAdvisor. */
function crioStats({ runtime, isBehind }: Scene): Found | undefined {
  if (runtime === undefined || !runtime.endsWith('crio.sock')) return undefined;
  return isBehind
    ? ok('CRI-O: behind Holdfast the kubelet has what /stats/summary says from CRI, not from cAdvisor')
    : warn(
        'CRI-O: behind Holdfast the kubelet has what /stats/summary says from CRI, not from cAdvisor',
        'nothing has to be done; docs/install.md, "CRI-O\'s statistics", says what differs',
      );
}

function pressure({ machine }: Scene): Found {
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

function crictl({ machine, isBehind }: Scene): Found | undefined {
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
async function problemDetector({ machine, isBehind }: Scene): Promise<Found | undefined> {
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

function socketProxy({ machine }: Scene): Found {
  return hasSocketProxy(machine.files)
    ? ok('systemd-socket-proxyd can stand in for Holdfast')
    : warn(
        'systemd-socket-proxyd is not there: nothing stands in for a Holdfast that crashes again and again',
        "install the distribution's systemd package that has it",
      );
}

function disk({ machine, isInstalled }: Scene): Found | undefined {
  const free = freeBytes(machine, '/opt');
  if (free === undefined) return undefined;
  const text = `/opt has ${mebibytes(free)} MiB left`;
  if (free >= neededBytes) return ok(text);
  const remedy = `install needs ${mebibytes(neededBytes)} MiB there: make room`;
  return isInstalled ? warn(text, remedy) : fail(text, remedy);
}

/** Of `holdfast check`: the kubelet, and whether it is behind Holdfast. */
import { parseDuration } from '../config/kinds.js';
import { endpointFlag, flagOf, isSameEndpoint, processArguments, shownSource } from '../install/kubelet.js';
import { kubeletHealth } from '../install/kubelet-health.js';
import { pause } from '../install/machine.js';
import { paths } from '../install/paths.js';
import { marks } from '../install/revert-script.js';
import { unitState } from '../install/systemctl.js';
import { consequence, type Found, fail, ok, warn } from './finding.js';
import { way } from './holdfast-checks.js';
import type { Scene } from './scene.js';

/** A kubelet lists each second; one that is busy lists later. */
const listsWithinMs = 6_000;
/** Source: v1beta1 SetDefaults_KubeletConfiguration, `runtimeRequestTimeout`. */
const defaultRequestTimeoutMs = 120_000;

export async function kubeletWell(
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

export function confirmed({ machine, isBehind }: Scene): Found | undefined {
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

export function endpoint({ kubelet, isInstalled, isBehind }: Scene): Found | undefined {
  if (kubelet === undefined) return undefined;
  const { setup } = kubelet;
  const text = `the kubelet's endpoint is ${setup.endpoint} (${shownSource(setup.from)})`;
  if (isBehind && !isInstalled)
    return fail(`${text}, and Holdfast is not installed`, 'holdfast install, or holdfast uninstall');
  if (isBehind || !isInstalled) return ok(text);
  return fail(`${text}: it is not behind Holdfast`, 'holdfast install --stage switch');
}

/** What it was started with need not be what it would be started with now. */
export async function runningEndpoint({ machine, kubelet }: Scene): Promise<Found | undefined> {
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

export async function lists({ machine, asks, isInstalled, isBehind }: Scene): Promise<Found | undefined> {
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

export function deadline({ kubelet, config }: Scene): Found | undefined {
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
export function crioStats({ runtime, isBehind }: Scene): Found | undefined {
  if (runtime === undefined || !runtime.endsWith('crio.sock')) return undefined;
  return isBehind
    ? ok('CRI-O: behind Holdfast the kubelet has what /stats/summary says from CRI, not from cAdvisor')
    : warn(
        'CRI-O: behind Holdfast the kubelet has what /stats/summary says from CRI, not from cAdvisor',
        'nothing has to be done; docs/install.md, "CRI-O\'s statistics", says what differs',
      );
}

/** A storm of pods through a Holdfast that is killed again and again, and what that may cost. */
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Test } from 'tap';
import { KubeletLike } from '../../../src/harness/kubelet/kubelet-like.js';
import { CriClient } from '../../support/cri-client.js';
import type { Systemd } from './systemd.js';
import { kill, type Node } from './systemd-units.js';
import { until } from './until.js';

/** HOLDFAST_TEST_KILLS says how often it is killed. */
export const kills = Number(process.env.HOLDFAST_TEST_KILLS ?? 8);
/** For how long the client waits for a connection to be served. */
const connectWindowMs = 5_000;

interface StormPlan {
  readonly pods: number;
  readonly kills: number;
  /** From when it serves until it is killed. */
  readonly everyMs: number;
  readonly imageName?: string;
  readonly cgroupParent?: string;
}

/** Kills it again and again while pods come up, and compares what that cost with what the starts took. */
export async function stormOfKills(t: Test, node: Node, runtimeSocket: string, plan: StormPlan): Promise<void> {
  const { systemd } = node;
  const caller = await node.caller();
  await caller.seen();
  const logs = path.join(systemd.directory, 'pods');
  const kubelet = new KubeletLike({
    socketPath: node.socket,
    podLogsDirectory: logs,
    pods: Array.from({ length: plan.pods }, (_, n) => ({
      name: `web-${n}`,
      namespace: 'default',
      arriveMs: n * 10,
    })),
    requestTimeoutMs: 120_000,
    backoffMs: [1_000, 1_500],
    relistMs: 500,
    ...(plan.imageName === undefined ? {} : { imageName: plan.imageName }),
    ...(plan.cgroupParent === undefined ? {} : { podDefaults: { cgroupParent: plan.cgroupParent } }),
  });
  const over = AbortSignal.timeout(600_000);
  const running = kubelet.run(over);
  const starts: number[] = [];
  for (let n = 0; n < plan.kills; n++) {
    await delay(plan.everyMs);
    const served = servingTimes(systemd).length;
    const killedMs = Date.now();
    await kill(systemd, 'SIGKILL');
    const again = await until('it serves again', () => servingTimes(systemd)[served]);
    starts.push(again - killedMs);
  }
  const histories = await running;
  const seen = await caller.seen();
  const slowest = Math.max(...starts);
  t.comment(
    `${plan.kills} kills: ${seen.answers} answers, ${seen.failed.length} failed calls, ${seen.failedDials} of ${seen.dials} dials ` +
      `failed, longest time without an answer ${seen.longestMs} ms; start-up ${Math.min(...starts)} to ${slowest} ms`,
  );
  t.equal(seen.failedDials, 0, 'no dial fails');
  const texts = seen.failed.map(({ text }) => text);
  const inFlight = texts.filter((text) => text === 'transport is closing');
  t.ok(inFlight.length <= plan.kills, 'of each kill fails at most the call in flight');
  // On a machine that is that busy; a kubelet is no more patient.
  const isSlow = slowest >= connectWindowMs;
  t.ok(isSlow || texts.length === inFlight.length, `and no other where a start is waited for: ${texts}`);
  t.ok(seen.longestMs <= 2 * slowest + 500, 'without an answer is only who waits for the start');
  t.notOk(over.aborted, 'all pods came up');
  t.equal(histories.length, plan.pods);

  const runtime = new CriClient(runtimeSocket);
  t.teardown(() => runtime.close());
  const { items } = await runtime.call('ListPodSandbox');
  const { containers } = await runtime.call('ListContainers');
  const ready = items.filter(({ state }) => state === 'SANDBOX_READY').map(({ metadata }) => metadata.uid);
  const run = containers
    .filter(({ state }) => state === 'CONTAINER_RUNNING')
    .map(({ labels }) => labels['io.kubernetes.pod.uid'] ?? '');
  const pods = histories.map(({ uid }) => uid).sort();
  t.strictSame(ready.sort(), pods, 'each pod has one pod sandbox');
  t.strictSame(run.sort(), pods, 'and one container, which runs');
  await kubelet.removeAll(AbortSignal.timeout(60_000));
  t.strictSame(await runtime.call('ListPodSandbox'), { items: [] }, 'and nothing is left of them');
  t.strictSame(await runtime.call('ListContainers'), { containers: [] });
}

/** When Holdfast has said that it serves, in ms as Date.now(). */
function servingTimes(systemd: Systemd): number[] {
  return systemd
    .output()
    .split('\n')
    .filter((line) => line.includes('"msg":"serving"'))
    .map((line) => Date.parse(/"time":"([^"]+)"/.exec(line)?.[1] ?? ''));
}

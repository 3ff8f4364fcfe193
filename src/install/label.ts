/** What the cluster is told of the node: the only part that needs the API server. Where that is away it says what to do. */
import { hostname } from 'node:os';
import { version } from '../config/version.js';
import { endpointFlag, flagOf } from './kubelet.js';
import { complaint, type Machine } from './machine.js';
import { kubeadmFlags } from './platform.js';
import type { Steps } from './steps.js';
import type { Word } from './systemd-unit.js';

/** The kubelet's own credentials, which may change its own node. */
const kubeconfig = '/etc/kubernetes/kubelet.conf';
/** What `kubeadm upgrade` takes the endpoint from where it keeps it as a flag (before 1.34). */
const criSocketAnnotation = 'kubeadm.alpha.kubernetes.io/cri-socket';
/** Says which version of Holdfast a node has. */
const versionLabel = 'holdfast/version';

/** @param words The kubelet's command line. */
export async function labelNode(machine: Machine, steps: Steps, words: readonly Word[]): Promise<void> {
  await tell(machine, steps, ['label', 'node', nodeName(words), `${versionLabel}=${version}`, '--overwrite']);
}

export async function unlabelNode(machine: Machine, steps: Steps, words: readonly Word[]): Promise<void> {
  await tell(machine, steps, ['label', 'node', nodeName(words), `${versionLabel}-`]);
}

/** An annotation that says another socket than the flag makes the next `kubeadm upgrade` change that. Does nothing on other nodes. */
export async function annotateForKubeadm(
  machine: Machine,
  steps: Steps,
  words: readonly Word[],
  endpoint: string,
): Promise<void> {
  if (!(machine.files.text(kubeadmFlags) ?? '').includes(endpointFlag)) return;
  await tell(machine, steps, [
    'annotate',
    'node',
    nodeName(words),
    `${criSocketAnnotation}=${endpoint}`,
    '--overwrite',
  ]);
}

function nodeName(words: readonly Word[]): string {
  return (flagOf(words, '--hostname-override')?.value ?? hostname()).toLowerCase();
}

async function tell(machine: Machine, steps: Steps, args: readonly string[]): Promise<void> {
  const shown = `kubectl ${args.join(' ')}`;
  if (steps.dryRun) {
    await steps.do(shown, () => {});
    return;
  }
  const ran = await machine.run('kubectl', [`--kubeconfig=${kubeconfig}`, '--request-timeout=5s', ...args]);
  if (ran.code === 0) steps.note(shown);
  else steps.later(`${shown} (from here: ${complaint(ran)})`);
}

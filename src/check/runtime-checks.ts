/** Of `holdfast check`: the runtime itself, past Holdfast. */
import { shownFault, versionWithinMs } from '../install/cri-version.js';
import { type Found, fail, ok, warn } from './finding.js';
import type { Scene } from './scene.js';

export async function runtimeVersion({ machine, asks, runtime }: Scene): Promise<Found> {
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

/** How a kubelet removes a container (kubernetes 1.26 pkg/kubelet/kuberuntime/kuberuntime_container.go:removeContainer). */
import { rmSync } from 'node:fs';
import path from 'node:path';
import type { StringMap } from '../runtime/messages.js';
import type { Calls } from './calls.js';
import type { Pod } from './pod.js';
import { restartCountOf } from './pod-status.js';
import { logPath } from './requests.js';

/** The log goes first. @throws {grpc.ServiceError} */
export async function removeContainer(
  calls: Calls,
  pod: Pod | undefined,
  container: { readonly id: string; readonly metadata: { readonly name: string }; readonly annotations: StringMap },
): Promise<void> {
  const { id, metadata } = container;
  if (pod !== undefined) {
    rmSync(path.join(pod.logDirectory, logPath(metadata.name, restartCountOf(container))), { force: true });
  }
  await calls.call('RemoveContainer', { container_id: id });
}

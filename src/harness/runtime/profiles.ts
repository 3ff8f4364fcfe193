/**
 * The container runtimes that are simulated, and what they say in words of their own. Knows no calls.
 *
 * Source: containerd 1.6 pkg/cri/server/helpers.go and pkg/registrar; CRI-O internal/lib/sandbox/builder.go, internal/registrar,
 * server/utils.go, and for `crio-remove` internal/lib/container_server.go.
 */
import { status } from '@grpc/grpc-js';
import type { ContainerMetadata, PodSandboxMetadata } from './messages.js';
import { StatusError } from './work.js';

export const profiles = ['containerd', 'crio-remove', 'crio-store'] as const;

/**
 * What becomes of a creation whose caller has left, and of a retry:
 *
 * - `containerd` (1.6): a pod sandbox is rolled back at once; a container is finished and listed. Retries are refused.
 * - `crio-remove` (CRI-O before its resource store): it is finished, then removed. Retries are refused.
 * - `crio-store` (CRI-O since then): it is finished and kept, hidden, for the next retry. A retry meanwhile waits for its own deadline.
 */
export type Profile = (typeof profiles)[number];

export type CreationKind = 'podSandbox' | 'container';

const prefixes = { containerd: '', 'crio-remove': 'k8s_', 'crio-store': 'k8s_' } as const;

export function sandboxName(profile: Profile, { name, namespace, uid, attempt }: PodSandboxMetadata): string {
  return `${prefixes[profile]}${name}_${namespace}_${uid}_${attempt}`;
}

export function containerName(profile: Profile, container: ContainerMetadata, pod: PodSandboxMetadata): string {
  return `${prefixes[profile]}${container.name}_${pod.name}_${pod.namespace}_${pod.uid}_${container.attempt}`;
}

/** A reserved name without what differs between two runs of the same pods: the pod's uid, and the runtime's prefix. */
export function plainName(name: string): string {
  const parts = name.replace(/^k8s_/, '').split('_');
  return [...parts.slice(0, -2), ...parts.slice(-1)].join('_');
}

/** The pod out of the reserved name of its sandbox: name and namespace, `web-0_default`. */
export function podOf(sandboxName: string): string {
  return sandboxName.replace(/^k8s_/, '').split('_').slice(0, 2).join('_');
}

/** @param ids Of what the name is reserved for, and of what is refused. */
export function refusal(
  profile: Profile,
  kind: CreationKind,
  name: string,
  ids: { readonly holder: string; readonly refused: string },
): StatusError {
  if (profile === 'containerd') {
    const what = kind === 'podSandbox' ? 'sandbox' : 'container';
    return new StatusError(
      status.UNKNOWN,
      `failed to reserve ${what} name "${name}": name "${name}" is reserved for "${ids.holder}"`,
    );
  }
  const what = kind === 'podSandbox' ? 'pod' : 'ctr';
  return new StatusError(
    status.UNKNOWN,
    `error reserving ${what} name ${name} for id ${ids.refused}: name is reserved`,
  );
}

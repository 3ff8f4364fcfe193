/** Enumerations of CRI, as numbers on the wire. Source: k8s.io/cri-api runtime/v1/api.proto of Kubernetes 1.36. */

export const ContainerState = { created: 0, running: 1, exited: 2, unknown: 3 } as const;

export const PodSandboxState = { ready: 0, notReady: 1 } as const;

export const ContainerEventType = { created: 0, started: 1, stopped: 2, deleted: 3 } as const;

export const NamespaceMode = { pod: 0, container: 1, node: 2, target: 3 } as const;

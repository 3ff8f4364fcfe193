/**
 * What every method of the CRI RuntimeService means to Holdfast. Knows names and numbers only.
 *
 * Source: k8s.io/cri-api runtime/v1/api.proto of Kubernetes 1.36; runtime.v1alpha2 has a subset of the same methods.
 */

export type ResourceKind = 'podSandbox' | 'container';

/** A string field of the request that names a resource; runtimes also accept a unique prefix of the id. */
export interface IdField {
  readonly kind: ResourceKind;
  readonly number: number;
}

/** Roles are independent of each other: PodSandboxStatus both reports containers and uses a pod sandbox. */
export interface Method {
  /** As in the path, e.g. `RunPodSandbox`. */
  readonly name: string;
  /** What the response gives the id of, in its field 1. */
  readonly creates: ResourceKind | undefined;
  readonly startsContainer: boolean;
  /** Responses may speak of containers (see container-items.ts). */
  readonly reportsContainers: boolean;
  /** GetContainerEvents. */
  readonly events: boolean;
  /** A call proves that the caller has got this id. */
  readonly uses: IdField | undefined;
  /** A call stops or removes what this id names. */
  readonly ends: IdField | undefined;
  /** The response is a stream of messages. */
  readonly streaming: boolean;
}

const podSandbox: IdField = { kind: 'podSandbox', number: 1 };
const container: IdField = { kind: 'container', number: 1 };

const runtimeMethods: Readonly<Record<string, Partial<Method>>> = {
  Version: {},
  RunPodSandbox: { creates: 'podSandbox' },
  StopPodSandbox: { ends: podSandbox },
  RemovePodSandbox: { ends: podSandbox },
  PodSandboxStatus: { reportsContainers: true, uses: podSandbox },
  ListPodSandbox: {},
  StreamPodSandboxes: { streaming: true },
  CreateContainer: { creates: 'container', uses: podSandbox },
  StartContainer: { startsContainer: true, uses: container },
  StopContainer: { ends: container },
  RemoveContainer: { ends: container },
  ListContainers: { reportsContainers: true },
  StreamContainers: { reportsContainers: true, streaming: true },
  // The kubelet asks this, and stats, of every container that is listed: no proof that it got the id from its creation.
  ContainerStatus: { reportsContainers: true },
  UpdateContainerResources: { uses: container },
  ReopenContainerLog: { uses: container },
  ExecSync: { uses: container },
  Exec: { uses: container },
  Attach: { uses: container },
  PortForward: { uses: podSandbox },
  ContainerStats: { reportsContainers: true },
  ListContainerStats: { reportsContainers: true },
  StreamContainerStats: { reportsContainers: true, streaming: true },
  PodSandboxStats: { reportsContainers: true },
  ListPodSandboxStats: { reportsContainers: true },
  StreamPodSandboxStats: { reportsContainers: true, streaming: true },
  UpdateRuntimeConfig: {},
  Status: {},
  CheckpointContainer: { uses: container },
  GetContainerEvents: { reportsContainers: true, events: true, streaming: true },
  ListMetricDescriptors: {},
  ListPodSandboxMetrics: { reportsContainers: true },
  StreamPodSandboxMetrics: { reportsContainers: true, streaming: true },
  RuntimeConfig: {},
  UpdatePodSandboxResources: { uses: podSandbox },
};

const streamingImageMethods = ['StreamImages'];
const imageMethods = ['ListImages', ...streamingImageMethods, 'ImageStatus', 'PullImage', 'RemoveImage', 'ImageFsInfo'];

const packages = ['runtime.v1', 'runtime.v1alpha2'];
const methodsByPath = new Map<string, Method>();
const methodsByName = new Map<string, Method>();
const namesByPath = new Map<string, string>();
const streamingPaths = new Set<string>();

for (const [name, roles] of Object.entries(runtimeMethods)) {
  const method: Method = {
    name,
    creates: undefined,
    startsContainer: false,
    reportsContainers: false,
    events: false,
    uses: undefined,
    ends: undefined,
    streaming: false,
    ...roles,
  };
  methodsByName.set(name, method);
  for (const prefix of packages) {
    const path = `/${prefix}.RuntimeService/${name}`;
    methodsByPath.set(path, method);
    namesByPath.set(path, name);
    if (method.streaming) streamingPaths.add(path);
  }
}
for (const name of imageMethods) {
  for (const prefix of packages) namesByPath.set(`/${prefix}.ImageService/${name}`, name);
}
for (const name of streamingImageMethods) {
  for (const prefix of packages) streamingPaths.add(`/${prefix}.ImageService/${name}`);
}

/**
 * @param path The request's `:path`, e.g. `/runtime.v1.RuntimeService/RunPodSandbox`.
 * @returns undefined for every other service, and for methods added to CRI later.
 */
export function methodOf(path: string): Method | undefined {
  return methodsByPath.get(path);
}

/** @param name As in `Method.name`; undefined for methods of images and others. */
export function methodOfName(name: string): Method | undefined {
  return methodsByName.get(name);
}

/** All that `callName` says but `other`. No two methods of the CRI have the same name. */
export const callNames: readonly string[] = [...new Set(namesByPath.values())];

/** The name under which a call is counted: that of its method, image methods included; `other` for what is not of the CRI. */
export function callName(path: string): string {
  return namesByPath.get(path) ?? 'other';
}

/** Whether the path is known to answer with a stream, which may never end by itself; image methods included. */
export function isStreaming(path: string): boolean {
  return streamingPaths.has(path);
}

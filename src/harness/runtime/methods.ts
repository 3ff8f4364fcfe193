/**
 * Every CRI method of the simulated runtime that makes nothing. Knows no transport.
 *
 * Source of what Stop and Remove answer: containerd 1.6 pkg/cri/server/{sandbox,container}_{stop,remove}.go; CRI-O
 * server/sandbox_stop.go, which lets StopPodSandbox of an unknown sandbox succeed.
 */
import { status } from '@grpc/grpc-js';
import { untilAborted } from '../sleep.js';
import type { Creations } from './creations.js';
import { findOr } from './find.js';
import { decode, encode } from './messages.js';
import type { Container, NodeState, Sandbox } from './node-state.js';
import type { Profile } from './profiles.js';
import type { RawCall } from './raw-grpc-server.js';
import { timestamp } from './stamps.js';
import type { Starts } from './starts.js';
import {
  containerStats,
  containerStatus,
  listedContainer,
  podSandbox,
  podSandboxMetrics,
  podSandboxStats,
  podSandboxStatus,
} from './views.js';
import { aborted, StatusError } from './work.js';

export interface Runtime {
  readonly node: NodeState;
  readonly creations: Creations;
  readonly starts: Starts;
  readonly profile: Profile;
  /** Whether it has GetContainerEvents, and says in PodSandboxStatus what the containers are. */
  readonly events: boolean;
  readonly runtimeName: string;
}

/** Answers one method from the decoded request: with the message, or with the messages of a stream. */
type Method = (runtime: Runtime, request: Request, over: AbortSignal) => object | Promise<object>;

/** The fields of all requests answered here. */
interface Request {
  readonly container_id: string;
  readonly pod_sandbox_id: string;
  readonly cmd: readonly string[];
  readonly verbose: boolean;
  readonly filter: Parameters<NodeState['listContainers']>[0];
  readonly image: { readonly image: string } | null;
}

/** Items of one message of a streamed list. */
const chunkSize = 2;

function chunks(field: string, items: readonly object[]): object[] {
  const messages: object[] = [];
  for (let start = 0; start < items.length; start += chunkSize) {
    messages.push({ [field]: items.slice(start, start + chunkSize) });
  }
  return messages;
}

function sandboxOf(
  { node }: Runtime,
  id: string,
  text = `an error occurred when try to find sandbox "${id}"`,
): Sandbox {
  return findOr(status.NOT_FOUND, text, () => node.sandbox(id));
}

function containerOf(
  { node }: Runtime,
  id: string,
  text = `an error occurred when try to find container "${id}"`,
): Container {
  return findOr(status.NOT_FOUND, text, () => node.container(id));
}

/** @returns Nothing where nothing has this id or prefix. */
function ifKnown<T>(find: () => T): T | undefined {
  try {
    return find();
  } catch (error) {
    if (error instanceof StatusError && error.code === status.NOT_FOUND) return undefined;
    throw error;
  }
}

/** A start under way holds the shim that is to end the sandbox; what it starts was not there to be stopped and goes on. */
async function stopPodSandbox({ node, starts }: Runtime, sandbox: Sandbox, over: AbortSignal): Promise<void> {
  node.stopContainers(sandbox);
  await untilAborted(starts.ended(sandbox.id), over);
  if (over.aborted) throw new StatusError(status.CANCELLED, 'context canceled');
  node.endSandbox(sandbox);
}

function removeContainer({ node, creations }: Runtime, container: Container): void {
  if (container.starting) {
    throw new StatusError(
      status.UNKNOWN,
      `failed to set removing state for container "${container.id}": container is in starting state, can't be removed`,
    );
  }
  if (container.state === 'CONTAINER_RUNNING') node.exit(container, 137, 'Error');
  node.containers.delete(container.id);
  creations.releaseName(container);
  node.emit(container.id, 'CONTAINER_DELETED_EVENT', node.sandboxes.get(container.sandboxId));
}

async function removePodSandbox(runtime: Runtime, sandbox: Sandbox, over: AbortSignal): Promise<void> {
  const { node, creations } = runtime;
  await stopPodSandbox(runtime, sandbox, over);
  for (const container of [...node.containers.values()]) {
    if (container.sandboxId === sandbox.id) removeContainer(runtime, container);
  }
  node.sandboxes.delete(sandbox.id);
  creations.releaseName(sandbox);
  node.emit(sandbox.id, 'CONTAINER_DELETED_EVENT', sandbox);
}

const image = { id: 'sha256:0', repo_tags: ['simulated/image:1'], size: 4096 };

const fsUsage = (): object => ({
  timestamp: timestamp(),
  fs_id: { mountpoint: '/var/lib/simulated' },
  used_bytes: { value: 4096 },
  inodes_used: { value: 1 },
});

const condition = (type: string): object => ({ type, status: true });

const stats = ({ node }: Runtime, { filter }: Request): object[] => node.listContainers(filter).map(containerStats);
const podStats = ({ node }: Runtime, { filter }: Request): object[] =>
  node.listSandboxes(filter).map((sandbox) => podSandboxStats(sandbox, node.containersOf(sandbox.id)));
const podMetrics = ({ node }: Runtime): object[] =>
  node.listSandboxes(null).map((sandbox) => podSandboxMetrics(sandbox, node.containersOf(sandbox.id)));
const knownContainer: Method = (runtime, { container_id: id }) => {
  containerOf(runtime, id);
  return {};
};
const streamingUrl = (): object => ({ url: 'http://127.0.0.1:0/simulated' });

const methods: Readonly<Record<string, Method>> = {
  Version: ({ runtimeName }) => ({
    version: '0.1.0',
    runtime_name: runtimeName,
    runtime_version: '1.6.20',
    runtime_api_version: 'v1',
  }),
  Status: (_runtime, { verbose }) => ({
    status: { conditions: [condition('RuntimeReady'), condition('NetworkReady')] },
    info: verbose ? { config: '{}' } : {},
  }),
  StopPodSandbox: async (runtime, { pod_sandbox_id: id }, over) => {
    const find = (): Sandbox => sandboxOf(runtime, id);
    const sandbox = runtime.profile === 'containerd' ? find() : ifKnown(find);
    if (sandbox !== undefined) await stopPodSandbox(runtime, sandbox, over);
    return {};
  },
  RemovePodSandbox: async (runtime, { pod_sandbox_id: id }, over) => {
    const sandbox = ifKnown(() => sandboxOf(runtime, id));
    if (sandbox !== undefined) await removePodSandbox(runtime, sandbox, over);
    return {};
  },
  PodSandboxStatus: (runtime, { pod_sandbox_id: id, verbose }) => {
    const sandbox = sandboxOf(runtime, id, 'an error occurred when try to find sandbox');
    const containers = runtime.node.containersOf(sandbox.id).map(containerStatus);
    return {
      status: podSandboxStatus(sandbox),
      info: verbose ? { info: '{}' } : {},
      ...(runtime.events ? { containers_statuses: containers, timestamp: timestamp() } : {}),
    };
  },
  ListPodSandbox: ({ node }, { filter }) => ({ items: node.listSandboxes(filter).map(podSandbox) }),
  StreamPodSandboxes: ({ node }, { filter }) => chunks('pod_sandboxes', node.listSandboxes(filter).map(podSandbox)),
  StopContainer: (runtime, { container_id: id }) => {
    const container = containerOf(runtime, id);
    if (container.state === 'CONTAINER_RUNNING') runtime.node.exit(container, 137, 'Error');
    return {};
  },
  RemoveContainer: (runtime, { container_id: id }) => {
    const container = ifKnown(() => containerOf(runtime, id));
    if (container !== undefined) removeContainer(runtime, container);
    return {};
  },
  ListContainers: ({ node }, { filter }) => ({ containers: node.listContainers(filter).map(listedContainer) }),
  StreamContainers: ({ node }, { filter }) => chunks('containers', node.listContainers(filter).map(listedContainer)),
  ContainerStatus: (runtime, { container_id: id, verbose }) => ({
    status: containerStatus(containerOf(runtime, id)),
    info: verbose ? { info: '{}' } : {},
  }),
  UpdateContainerResources: knownContainer,
  ReopenContainerLog: knownContainer,
  CheckpointContainer: knownContainer,
  ExecSync: (runtime, { container_id: id, cmd }) => {
    containerOf(runtime, id, `failed to exec in container: failed to find container "${id}" in store`);
    return { stdout: Buffer.from(`${cmd.join(' ')}\n`) };
  },
  Exec: streamingUrl,
  Attach: streamingUrl,
  PortForward: streamingUrl,
  ContainerStats: (runtime, { container_id: id }) => ({
    stats: containerStats(containerOf(runtime, id, 'failed to find container')),
  }),
  ListContainerStats: (runtime, request) => ({ stats: stats(runtime, request) }),
  StreamContainerStats: (runtime, request) => chunks('container_stats', stats(runtime, request)),
  PodSandboxStats: (runtime, { pod_sandbox_id: id }) => {
    const sandbox = sandboxOf(runtime, id);
    return { stats: podSandboxStats(sandbox, runtime.node.containersOf(sandbox.id)) };
  },
  ListPodSandboxStats: (runtime, request) => ({ stats: podStats(runtime, request) }),
  StreamPodSandboxStats: (runtime, request) => chunks('pod_sandbox_stats', podStats(runtime, request)),
  ListPodSandboxMetrics: (runtime) => ({ pod_metrics: podMetrics(runtime) }),
  StreamPodSandboxMetrics: (runtime) => chunks('pod_sandbox_metrics', podMetrics(runtime)),
  UpdatePodSandboxResources: (runtime, { pod_sandbox_id: id }) => {
    sandboxOf(runtime, id);
    return {};
  },
  ListImages: () => ({ images: [image] }),
  ImageStatus: (_runtime, { image: spec }) => (spec?.image === image.repo_tags[0] ? { image } : {}),
  ImageFsInfo: () => ({ image_filesystems: [fsUsage()] }),
};

/**
 * Carries a call out.
 *
 * @param over Fires when the caller has left or the runtime was killed; ends GetContainerEvents, which never ends by itself.
 * @returns Bytes of the answer; of a stream the messages are written and the answer is empty.
 * @throws {StatusError} The call fails.
 */
export async function answer(runtime: Runtime, call: RawCall, over: AbortSignal): Promise<Buffer> {
  const { name, requestType, responseType, streams } = call.method;
  if (name === 'GetContainerEvents' && runtime.events) {
    const unsubscribe = runtime.node.subscribe((event) => call.write(encode(responseType, event)));
    await aborted(over);
    unsubscribe();
    return Buffer.alloc(0);
  }
  const method = methods[name];
  if (method === undefined) throw new StatusError(status.UNIMPLEMENTED, `method ${name} not implemented`);
  const result = await method(runtime, decode<Request>(requestType, call.request), over);
  if (!streams) return encode(responseType, result);
  for (const message of result as readonly object[]) call.write(encode(responseType, message));
  return Buffer.alloc(0);
}

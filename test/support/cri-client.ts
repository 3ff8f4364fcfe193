/**
 * A plain CRI client over any unix socket, and requests shaped like a kubelet's. Knows nothing of a particular runtime or of
 * Holdfast: what it says is what a kubelet would say to either.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import * as grpc from '@grpc/grpc-js';
import type protobuf from 'protobufjs';
import { messageType, service } from '../../src/cri/schema.js';

const identity = (bytes: Buffer): Buffer => bytes;

export type SandboxState = 'SANDBOX_READY' | 'SANDBOX_NOTREADY';
export type ContainerState = 'CONTAINER_CREATED' | 'CONTAINER_RUNNING' | 'CONTAINER_EXITED' | 'CONTAINER_UNKNOWN';

export interface PodSandbox {
  id: string;
  metadata: { name: string; uid: string; namespace: string; attempt: number };
  state: SandboxState;
  labels: Record<string, string>;
  annotations: Record<string, string>;
}

export interface Container {
  id: string;
  pod_sandbox_id: string;
  metadata: { name: string; attempt: number };
  state: ContainerState;
  labels: Record<string, string>;
  annotations: Record<string, string>;
}

export interface ContainerStatus {
  id: string;
  metadata: { name: string; attempt: number };
  state: ContainerState;
  /** Nanoseconds since 1970, in decimal; `'0'` for a container that never ran. */
  started_at: string;
  finished_at: string;
  exit_code: number;
  reason: string;
  message: string;
  log_path: string;
}

interface Answers {
  Version: { version: string; runtime_name: string; runtime_version: string; runtime_api_version: string };
  Status: { status: { conditions: { type: string; status: boolean; reason: string; message: string }[] } };
  RunPodSandbox: { pod_sandbox_id: string };
  StopPodSandbox: object;
  RemovePodSandbox: object;
  PodSandboxStatus: {
    status: PodSandbox & { network: { ip: string } | null };
    info: Record<string, string>;
    containers_statuses: ContainerStatus[];
  };
  ListPodSandbox: { items: PodSandbox[] };
  CreateContainer: { container_id: string };
  StartContainer: object;
  StopContainer: object;
  RemoveContainer: object;
  ListContainers: { containers: Container[] };
  ContainerStatus: { status: ContainerStatus; info: Record<string, string> };
  ExecSync: { stdout: Buffer; stderr: Buffer; exit_code: number };
  Exec: { url: string };
  Attach: { url: string };
  PortForward: { url: string };
  ContainerStats: { stats: object };
  ListContainerStats: { stats: { attributes: { id: string } }[] };
  ListPodSandboxStats: { stats: { attributes: { id: string }; linux: { containers: object[] } | null }[] };
  ListImages: { images: { id: string; repo_tags: string[] }[] };
  ImageFsInfo: object;
}

/** Methods of which `call` knows the answer; any other is reached by `callRaw`. */
export type CriMethod = keyof Answers;

export interface CallOptions {
  /** How long the caller waits, as a kubelet's request timeout; none: for ever. Sent as grpc-timeout. */
  readonly deadlineMs?: number;
  readonly metadata?: grpc.Metadata;
  /** Cancels the call; it then rejects with code CANCELLED. */
  readonly signal?: AbortSignal;
}

export interface RawAnswer {
  readonly message: Buffer;
  readonly metadata: grpc.Metadata;
  readonly trailers: grpc.Metadata;
}

/** One connection to a CRI socket. Every failed call rejects with grpc-js's ServiceError: `code`, `details`, `metadata`. */
export class CriClient {
  readonly #client: grpc.Client;
  readonly #version: string;

  /**
   * @param socketPath Absolute path of the unix socket; it need not exist yet.
   * @param version The API spoken: both have the same messages.
   */
  constructor(socketPath: string, version: 'v1' | 'v1alpha2' = 'v1') {
    this.#version = version;
    this.#client = new grpc.Client(`unix:${socketPath}`, grpc.credentials.createInsecure(), {
      'grpc.max_receive_message_length': -1,
      'grpc.max_send_message_length': -1,
      'grpc.initial_reconnect_backoff_ms': 50,
      'grpc.max_reconnect_backoff_ms': 200,
      // Without this, grpc-js shares one connection between all clients of a socket.
      'grpc.use_local_subchannel_pool': 1,
    });
  }

  /** Calls a method with a plain object (field names as in the .proto, enums by name, bytes as Buffer). */
  async call<M extends CriMethod>(method: M, request: object = {}, options: CallOptions = {}): Promise<Answers[M]> {
    const { path: methodPath, requestType, responseType } = describe(method, this.#version);
    const { message } = await this.callRaw(methodPath, encode(requestType, request), options);
    return decode(responseType, message) as Answers[M];
  }

  /** Calls `/package.Service/Method` with the bytes of a message. */
  callRaw(methodPath: string, message: Buffer, options: CallOptions = {}): Promise<RawAnswer> {
    return new Promise((resolve, reject) => {
      let metadata = new grpc.Metadata();
      let trailers = new grpc.Metadata();
      let answer: Buffer | undefined;
      const call = this.#client.makeUnaryRequest(
        methodPath,
        identity,
        identity,
        message,
        options.metadata ?? new grpc.Metadata(),
        callOptions(options),
        (error, response) => {
          options.signal?.removeEventListener('abort', cancel);
          if (error !== null) return reject(error);
          answer = response ?? Buffer.alloc(0);
        },
      );
      const cancel = (): void => call.cancel();
      call.on('metadata', (received) => {
        metadata = received;
      });
      call.on('status', (status) => {
        trailers = status.metadata;
        if (answer !== undefined) resolve({ message: answer, metadata, trailers });
      });
      if (options.signal?.aborted === true) cancel();
      else options.signal?.addEventListener('abort', cancel, { once: true });
    });
  }

  /** Opens a server stream, e.g. GetContainerEvents; iterate over it, and `cancel()` it at the end. */
  stream(method: string, request: object = {}, options: CallOptions = {}): grpc.ClientReadableStream<unknown> {
    const { path: methodPath, requestType, responseType } = describe(method, this.#version);
    return this.#client.makeServerStreamRequest(
      methodPath,
      identity,
      (bytes: Buffer): unknown => decode(responseType, bytes),
      encode(requestType, request),
      options.metadata ?? new grpc.Metadata(),
      callOptions(options),
    );
  }

  /** Resolves once connected; rejects after `deadlineMs`. */
  waitForReady(deadlineMs: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#client.waitForReady(Date.now() + deadlineMs, (error) => (error ? reject(error) : resolve()));
    });
  }

  close(): void {
    this.#client.close();
  }
}

function callOptions(options: CallOptions): grpc.CallOptions {
  return options.deadlineMs === undefined ? {} : { deadline: Date.now() + options.deadlineMs };
}

/** The bytes of a message, e.g. `encodeMessage('RunPodSandboxRequest', {…})`. */
export function encodeMessage(type: string, message: object): Buffer {
  return encode(messageType(type), message);
}

/** The plain object of a message's bytes. */
export function decodeMessage(type: string, bytes: Uint8Array): unknown {
  return decode(messageType(type), bytes);
}

function encode(type: protobuf.Type, message: object): Buffer {
  const bytes = type.encode(type.fromObject(message)).finish();
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function decode(type: protobuf.Type, bytes: Uint8Array): unknown {
  return type.toObject(type.decode(bytes), { enums: String, longs: String, defaults: true });
}

function describe(method: string, version: string) {
  for (const name of ['RuntimeService', 'ImageService']) {
    const found = service(name).methods[method];
    if (found === undefined) continue;
    return {
      path: `/runtime.${version}.${name}/${method}`,
      requestType: messageType(found.requestType),
      responseType: messageType(found.responseType),
    };
  }
  throw new RangeError(`no method ${method} in cri.proto`);
}

export interface PodOptions {
  /** Where the pod's log directory and its termination-log files go; must exist. */
  readonly directory: string;
  readonly name?: string;
  readonly namespace?: string;
  readonly uid?: string;
  /** Attempt of the sandbox. */
  readonly attempt?: number;
  /** Absolute cgroup path, as `/kubepods/…`. */
  readonly cgroupParent?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
}

export interface ContainerOptions {
  readonly image: string;
  readonly name?: string;
  readonly attempt?: number;
  readonly command?: readonly string[];
  readonly args?: readonly string[];
  readonly envs?: Readonly<Record<string, string>>;
  /** The kubelet's mark of the container's spec, `io.kubernetes.container.hash`. */
  readonly hash?: string;
}

/**
 * One pod as a kubelet sees it. Each request built is a new try: as in kubelet 1.26 the order of the environment and the file
 * of the termination log differ from the try before, identity and everything else stay.
 */
export class KubeletPod {
  readonly name: string;
  readonly namespace: string;
  readonly uid: string;
  readonly attempt: number;
  readonly logDirectory: string;
  readonly #options: PodOptions;
  #tries = 0;
  #configSeen = 1;

  constructor(options: PodOptions) {
    this.#options = options;
    this.name = options.name ?? 'web-0';
    this.namespace = options.namespace ?? 'default';
    this.uid = options.uid ?? crypto.randomUUID();
    this.attempt = options.attempt ?? 0;
    this.logDirectory = path.join(options.directory, 'pods', `${this.namespace}_${this.name}_${this.uid}`);
  }

  /** The same pod, of which the kubelet wants another sandbox. */
  withAttempt(attempt: number): KubeletPod {
    const { name, namespace, uid } = this;
    return new KubeletPod({ ...this.#options, name, namespace, uid, attempt });
  }

  /** From here on `kubernetes.io/config.seen` differs, as after a restart of the kubelet. */
  kubeletRestarted(): void {
    this.#configSeen += 1;
  }

  /** PodSandboxConfig. */
  sandboxConfig() {
    mkdirSync(this.logDirectory, { recursive: true });
    return {
      metadata: { name: this.name, uid: this.uid, namespace: this.namespace, attempt: this.attempt },
      hostname: this.name,
      log_directory: this.logDirectory,
      dns_config: { servers: ['10.96.0.10'], searches: [`${this.namespace}.svc.cluster.local`], options: ['ndots:5'] },
      port_mappings: [],
      labels: { app: 'web', ...this.#options.labels, ...this.#podLabels() },
      annotations: {
        'kubernetes.io/config.seen': `2026-01-01T00:00:${String(this.#configSeen).padStart(2, '0')}.000000000Z`,
        'kubernetes.io/config.source': 'api',
        ...this.#options.annotations,
      },
      linux: {
        cgroup_parent: this.#options.cgroupParent ?? `/kubepods/besteffort/pod${this.uid}`,
        security_context: { namespace_options: { pid: 'CONTAINER' }, seccomp: { profile_type: 'RuntimeDefault' } },
        overhead: {},
        resources: { cpu_period: 100_000, cpu_shares: 2 },
      },
    };
  }

  runPodSandboxRequest(runtimeHandler = '') {
    return { config: this.sandboxConfig(), runtime_handler: runtimeHandler };
  }

  createContainerRequest(podSandboxId: string, options: ContainerOptions) {
    const sandboxConfig = this.sandboxConfig();
    const name = options.name ?? 'app';
    const attempt = options.attempt ?? 0;
    const envs = Object.entries({
      KUBERNETES_SERVICE_HOST: '10.96.0.1',
      KUBERNETES_SERVICE_PORT: '443',
      KUBERNETES_PORT: 'tcp://10.96.0.1:443',
      ...options.envs,
    }).map(([key, value]) => ({ key, value: Buffer.from(value) }));
    // Rotated, not shuffled: two tries in a row never have the same order.
    const turn = this.#tries++ % envs.length;
    mkdirSync(path.join(this.logDirectory, name), { recursive: true });
    return {
      pod_sandbox_id: podSandboxId,
      config: {
        metadata: { name, attempt },
        image: { image: options.image },
        command: options.command ?? [],
        args: options.args ?? [],
        envs: [...envs.slice(turn), ...envs.slice(0, turn)],
        mounts: [{ container_path: '/dev/termination-log', host_path: this.#terminationLog(name) }],
        labels: { 'io.kubernetes.container.name': name, ...this.#podLabels() },
        annotations: {
          'io.kubernetes.container.hash': options.hash ?? '5f3c2a11',
          'io.kubernetes.container.restartCount': String(attempt),
          'io.kubernetes.container.terminationMessagePath': '/dev/termination-log',
          'io.kubernetes.container.terminationMessagePolicy': 'File',
          'io.kubernetes.pod.terminationGracePeriod': '30',
        },
        log_path: path.join(name, `${attempt}.log`),
        linux: {
          resources: { cpu_period: 100_000, cpu_shares: 2, oom_score_adj: 1000 },
          security_context: {
            namespace_options: { pid: 'CONTAINER' },
            run_as_user: { value: 0 },
            seccomp: { profile_type: 'RuntimeDefault' },
            masked_paths: ['/proc/kcore'],
            readonly_paths: ['/proc/sys'],
          },
        },
      },
      sandbox_config: sandboxConfig,
    };
  }

  #podLabels() {
    return {
      'io.kubernetes.pod.name': this.name,
      'io.kubernetes.pod.namespace': this.namespace,
      'io.kubernetes.pod.uid': this.uid,
    };
  }

  /** A file of its own for each try, with eight random hex digits in its name; it exists, as runtimes demand of a mount. */
  #terminationLog(container: string): string {
    const directory = path.join(this.#options.directory, 'pods', this.uid, 'containers', container);
    mkdirSync(directory, { recursive: true });
    const file = path.join(directory, crypto.randomUUID().slice(0, 8));
    writeFileSync(file, '', { mode: 0o666 });
    return file;
  }
}

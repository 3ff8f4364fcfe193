/**
 * Tells which creation a request asks for, and whether two requests for one creation are the same. Works on the request's wire
 * bytes and never changes them.
 */
import { isUtf8 } from 'node:buffer';
import { posix } from 'node:path';
import { messageSchema } from '../cri/schema.js';
import { WireError } from '../cri/wire.js';
import { type Parts, partsOf } from './drift.js';
import { type NormalMessage, parseMessage } from './normal-form.js';

export { driftOf, type Parts } from './drift.js';

/** What both runtimes reserve a sandbox name by, and the kubelet keeps constant between tries. */
export interface PodSandboxIdentity {
  readonly kind: 'podSandbox';
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly attempt: number;
}

/** What both runtimes reserve a container name by. `namespace`, `name` and `uid` are those of the pod. */
export interface ContainerIdentity {
  readonly kind: 'container';
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly container: string;
  readonly attempt: number;
}

interface FingerprintBase {
  /** The identity without the attempt; no two different ones give the same string. */
  readonly family: string;
  /** The identity. */
  readonly key: string;
  /**
   * SHA-256, 64 lowercase hex digits, of all else in normal form: what a retry of the kubelet changes without meaning anything
   * is left out or put in order.
   */
  readonly digest: string;
  /** For driftOf. */
  readonly parts: Parts;
  /** `log_directory` of the pod sandbox config; '' if absent, as with all strings here. */
  readonly logDirectory: string;
  /** A static pod, by annotation kubernetes.io/config.source. */
  readonly isStatic: boolean;
}

export interface PodSandboxFingerprint extends FingerprintBase {
  readonly kind: 'podSandbox';
  readonly identity: PodSandboxIdentity;
  readonly runtimeHandler: string;
}

export interface ContainerFingerprint extends FingerprintBase {
  readonly kind: 'container';
  readonly identity: ContainerIdentity;
  readonly podSandboxId: string;
  /** Attempt of the pod sandbox it is asked for in. */
  readonly sandboxAttempt: number;
  /** Annotation io.kubernetes.container.hash: the kubelet's own mark of the container's spec. */
  readonly specHash: string;
  /** Relative to `logDirectory`. */
  readonly logPath: string;
}

export type Fingerprint = PodSandboxFingerprint | ContainerFingerprint;

export interface FingerprintOptions {
  /** Keys of annotations of pod and container that differ between two tries without meaning anything. */
  readonly volatileAnnotations: ReadonlySet<string>;
}

// Field numbers of CRI v1, in the order of the messages.
const runPodSandboxRequest = { config: 1, runtimeHandler: 2 } as const;
const createContainerRequest = { podSandboxId: 1, config: 2, sandboxConfig: 3 } as const;
const podSandboxConfig = { metadata: 1, logDirectory: 3, annotations: 7 } as const;
const podSandboxMetadata = { name: 1, uid: 2, namespace: 3, attempt: 4 } as const;
const containerConfig = { metadata: 1, envs: 6, mounts: 7, annotations: 10, logPath: 11 } as const;
const containerMetadata = { name: 1, attempt: 2 } as const;
const keyValue = { key: 1 } as const;
const mount = { containerPath: 1, hostPath: 2 } as const;

const annotations = {
  configSource: 'kubernetes.io/config.source',
  specHash: 'io.kubernetes.container.hash',
  restartCount: 'io.kubernetes.container.restartCount',
  terminationMessagePath: 'io.kubernetes.container.terminationMessagePath',
} as const;

const defaultTerminationMessagePath = '/dev/termination-log';

/**
 * @param request A RunPodSandboxRequest.
 * @returns undefined where it is malformed, or its pod has no name, namespace or uid: not for Holdfast to judge.
 */
export function fingerprintPodSandbox(request: Buffer, options: FingerprintOptions): PodSandboxFingerprint | undefined {
  return unlessMalformed(() => {
    const message = parseMessage(messageSchema('RunPodSandboxRequest'), request);
    const config = message.message(runPodSandboxRequest.config);
    const metadata = config?.message(podSandboxConfig.metadata);
    const pod = readPod(metadata);
    if (config === undefined || metadata === undefined || pod === undefined) return undefined;
    const identity: PodSandboxIdentity = {
      kind: 'podSandbox',
      ...pod,
      attempt: readAttempt(metadata, podSandboxMetadata.attempt),
    };
    const details = {
      logDirectory: config.bytes(podSandboxConfig.logDirectory).toString(),
      isStatic: isStatic(config),
      runtimeHandler: message.bytes(runPodSandboxRequest.runtimeHandler).toString(),
    };

    dropPod(metadata);
    metadata.drop(podSandboxMetadata.attempt);
    for (const key of options.volatileAnnotations) config.dropEntry(podSandboxConfig.annotations, key);
    return {
      kind: 'podSandbox',
      identity,
      ...describe(podSandboxFamily(pod), identity, message),
      ...details,
    };
  });
}

/**
 * @param request A CreateContainerRequest.
 * @returns undefined where it is malformed, or names no container, pod or pod sandbox.
 */
export function fingerprintContainer(request: Buffer, options: FingerprintOptions): ContainerFingerprint | undefined {
  return unlessMalformed(() => {
    const message = parseMessage(messageSchema('CreateContainerRequest'), request);
    const config = message.message(createContainerRequest.config);
    const metadata = config?.message(containerConfig.metadata);
    const sandboxConfig = message.message(createContainerRequest.sandboxConfig);
    const sandboxMetadata = sandboxConfig?.message(podSandboxConfig.metadata);
    const pod = readPod(sandboxMetadata);
    if (!config || !metadata || !sandboxConfig || !sandboxMetadata || !pod) return undefined;
    const container = readName(metadata, containerMetadata.name);
    const podSandboxId = readName(message, createContainerRequest.podSandboxId);
    if (container === '' || podSandboxId === '') return undefined;
    const identity: ContainerIdentity = {
      kind: 'container',
      ...pod,
      container,
      attempt: readAttempt(metadata, containerMetadata.attempt),
    };
    const details = {
      podSandboxId,
      sandboxAttempt: readAttempt(sandboxMetadata, podSandboxMetadata.attempt),
      specHash: config.entry(containerConfig.annotations, annotations.specHash)?.toString() ?? '',
      logPath: config.bytes(containerConfig.logPath).toString(),
      logDirectory: sandboxConfig.bytes(podSandboxConfig.logDirectory).toString(),
      isStatic: isStatic(sandboxConfig),
    };

    metadata.drop(containerMetadata.name);
    metadata.drop(containerMetadata.attempt);
    dropPod(sandboxMetadata);
    config.sortMessages(containerConfig.envs, keyValue.key);
    terminationLog(config)?.drop(mount.hostPath);
    for (const key of options.volatileAnnotations) {
      config.dropEntry(containerConfig.annotations, key);
      sandboxConfig.dropEntry(podSandboxConfig.annotations, key);
    }
    // These two go with the attempt, see calcRestartCountByLogDir in the kubelet's kuberuntime_container.go.
    config.drop(containerConfig.logPath);
    config.dropEntry(containerConfig.annotations, annotations.restartCount);
    return {
      kind: 'container',
      identity,
      ...describe(containerFamily(identity), identity, message),
      ...details,
    };
  });
}

/** The family of any container, however its identity became known; see FingerprintBase. */
export function containerFamily(identity: Pick<ContainerIdentity, 'namespace' | 'name' | 'uid' | 'container'>): string {
  return JSON.stringify(['container', identity.namespace, identity.name, identity.uid, identity.container]);
}

function podSandboxFamily(identity: Pick<PodSandboxIdentity, 'namespace' | 'name' | 'uid'>): string {
  return JSON.stringify(['podSandbox', identity.namespace, identity.name, identity.uid]);
}

function describe(family: string, { attempt }: { attempt: number }, rest: NormalMessage) {
  const parts = partsOf(rest);
  return { family, key: `${family}#${attempt}`, digest: parts.digest, parts };
}

/**
 * The mount whose host path the kubelet makes up anew on every try. It cleans the path and appends the mount to those of the
 * pod's volumes (makeMounts in kuberuntime_container.go, MakeAbsolutePath in volume/util), so the last that matches is it.
 */
function terminationLog(config: NormalMessage): NormalMessage | undefined {
  const annotated = config.entry(containerConfig.annotations, annotations.terminationMessagePath)?.toString();
  if (annotated === '') return undefined;
  const path = annotated ?? defaultTerminationMessagePath;
  const paths = new Set([path, posix.resolve('/', path)]);
  return config
    .messages(containerConfig.mounts)
    .findLast((each) => paths.has(each.bytes(mount.containerPath).toString()));
}

function isStatic(sandboxConfig: NormalMessage): boolean {
  return sandboxConfig.entry(podSandboxConfig.annotations, annotations.configSource)?.toString() === 'file';
}

function readPod(metadata: NormalMessage | undefined): { namespace: string; name: string; uid: string } | undefined {
  if (metadata === undefined) return undefined;
  const namespace = readName(metadata, podSandboxMetadata.namespace);
  const name = readName(metadata, podSandboxMetadata.name);
  const uid = readName(metadata, podSandboxMetadata.uid);
  return namespace === '' || name === '' || uid === '' ? undefined : { namespace, name, uid };
}

function dropPod(metadata: NormalMessage): void {
  metadata.drop(podSandboxMetadata.namespace);
  metadata.drop(podSandboxMetadata.name);
  metadata.drop(podSandboxMetadata.uid);
}

function readAttempt(metadata: NormalMessage, number: number): number {
  return Number(metadata.varint(number));
}

/** @throws {WireError} Not UTF-8, which proto3 demands: two different names must never read the same. */
function readName(message: NormalMessage, number: number): string {
  const bytes = message.bytes(number);
  if (!isUtf8(bytes)) throw new WireError(`field ${number} of ${message.schema.name} is not UTF-8`);
  return bytes.toString();
}

function unlessMalformed<Result>(read: () => Result): Result | undefined {
  try {
    return read();
  } catch (error) {
    if (error instanceof WireError) return undefined;
    throw error;
  }
}

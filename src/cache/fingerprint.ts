/**
 * Tells which creation a request asks for, and whether two requests for one creation are the same. Works on the request's wire
 * bytes and never changes them.
 */
import { isUtf8 } from 'node:buffer';
import { posix } from 'node:path';
import { NamespaceMode } from '../cri/enums.js';
import { messageSchema } from '../cri/schema.js';
import { WireError } from '../cri/wire.js';
import { WireMessage } from '../cri/wire-message.js';
import { type Parts, partsOf, unknownParts } from './drift.js';
import { type NormalMessage, parseMessage, TooLargeError } from './normal-form.js';
import { resourcesDigest } from './resources-digest.js';

export { driftOf, hasDrifted, type Parts } from './drift.js';

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

export type Identity = PodSandboxIdentity | ContainerIdentity;

interface FingerprintBase {
  /** The identity without the attempt; no two different ones give the same string. */
  readonly family: string;
  /** The identity. */
  readonly key: string;
  /**
   * SHA-256, 64 lowercase hex digits, of all else in normal form: what a retry of the kubelet changes without meaning anything
   * is left out or put in order. Compare with hasDrifted: '' says nothing.
   */
  readonly digest: string;
  /** No normal form is made of such a request: `digest` is '' and `parts` are empty, all else is as ever. */
  readonly tooLarge: boolean;
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
  /** It needs no network of its own. */
  readonly usesHostNetwork: boolean;
}

export interface ContainerFingerprint extends FingerprintBase {
  readonly kind: 'container';
  readonly identity: ContainerIdentity;
  readonly podSandboxId: string;
  /** Annotation io.kubernetes.container.hash: the kubelet's own mark of the container's spec. */
  readonly specHash: string;
  /** Relative to `logDirectory`. */
  readonly logPath: string;
  /**
   * Of `linux.resources` but for its cpusets, which move with the kubelet's shared pool, and of `windows.resources`: the same
   * for two requests whose resources mean the same, `''` where they say nothing. It is compared, never read.
   */
  readonly resources: string;
}

export type Fingerprint = PodSandboxFingerprint | ContainerFingerprint;

/** `resources` of the fingerprint; '' for a pod sandbox, too. */
export function resourcesAskedFor(fingerprint: Fingerprint): string {
  return fingerprint.kind === 'container' ? fingerprint.resources : '';
}

export interface FingerprintOptions {
  /** Keys of annotations of pod and container that differ between two tries without meaning anything. */
  readonly volatileAnnotations: ReadonlySet<string>;
}

// Field numbers of CRI v1, in the order of the messages.
const runPodSandboxRequest = { config: 1, runtimeHandler: 2 } as const;
const createContainerRequest = { podSandboxId: 1, config: 2, sandboxConfig: 3 } as const;
const podSandboxConfig = { metadata: 1, logDirectory: 3, annotations: 7, linux: 8 } as const;
const linuxPodSandboxConfig = { securityContext: 2 } as const;
const sandboxSecurityContext = { namespaceOptions: 1 } as const;
const namespaceOption = { network: 1 } as const;
const podSandboxMetadata = { name: 1, uid: 2, namespace: 3, attempt: 4 } as const;
const containerConfig = {
  metadata: 1,
  envs: 6,
  mounts: 7,
  annotations: 10,
  logPath: 11,
  linux: 15,
  windows: 16,
} as const;
/** Of LinuxContainerConfig and WindowsContainerConfig. */
const platformConfig = { resources: 1 } as const;
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

/** What is read of a request, whether it was parsed or is still on the wire. */
interface MessageReader<Reader> {
  bytes(number: number): Buffer;
  varint(number: number): bigint;
  message(number: number): Reader | undefined;
  entry(number: number, key: string): Buffer | undefined;
}

interface AnyReader extends MessageReader<AnyReader> {}

/**
 * @param request A RunPodSandboxRequest.
 * @returns undefined where it is malformed, or its pod has no name, namespace or uid: not for Holdfast to judge. What is
 * malformed only in what is not read of a request too large for a normal form is not seen; one of millions of fields counts as
 * malformed.
 */
export function fingerprintPodSandbox(request: Buffer, options: FingerprintOptions): PodSandboxFingerprint | undefined {
  return unlessMalformed(() => {
    const name = 'RunPodSandboxRequest';
    const kind = 'podSandbox';
    const message = unlessTooLarge(() => parseMessage(messageSchema(name), request));
    if (message === undefined) {
      const onWire = readPodSandbox(new WireMessage(request));
      return onWire && { kind, ...onWire.read, ...tooLarge(name) };
    }
    const found = readPodSandbox(message);
    if (found === undefined) return undefined;

    const { pod } = found;
    dropPod(pod);
    pod.metadata.drop(podSandboxMetadata.attempt);
    for (const key of options.volatileAnnotations) pod.config.dropEntry(podSandboxConfig.annotations, key);
    // `kind` first: a literal that begins with a spread becomes a dictionary in V8 and takes three times the memory.
    return { kind, ...found.read, ...inNormalForm(message) };
  });
}

/**
 * @param request A CreateContainerRequest.
 * @returns undefined where it is malformed (see fingerprintPodSandbox), or names no container, pod or pod sandbox.
 */
export function fingerprintContainer(request: Buffer, options: FingerprintOptions): ContainerFingerprint | undefined {
  return unlessMalformed(() => {
    const name = 'CreateContainerRequest';
    const kind = 'container';
    const message = unlessTooLarge(() => parseMessage(messageSchema(name), request));
    if (message === undefined) {
      const onWire = readContainer(new WireMessage(request));
      return onWire && { kind, ...onWire.read, ...tooLarge(name), resources: resourcesOnWire(onWire.config) };
    }
    const found = readContainer(message);
    if (found === undefined) return undefined;

    const { config, metadata, pod } = found;
    metadata.drop(containerMetadata.name);
    metadata.drop(containerMetadata.attempt);
    dropPod(pod);
    config.sortMessages(containerConfig.envs, keyValue.key);
    terminationLog(config)?.drop(mount.hostPath);
    for (const key of options.volatileAnnotations) {
      config.dropEntry(containerConfig.annotations, key);
      pod.config.dropEntry(podSandboxConfig.annotations, key);
    }
    // These two go with the attempt, see calcRestartCountByLogDir in the kubelet's kuberuntime_container.go.
    config.drop(containerConfig.logPath);
    config.dropEntry(containerConfig.annotations, annotations.restartCount);
    return { kind, ...found.read, ...inNormalForm(message), resources: resourcesOf(config) };
  });
}

function readPodSandbox<Reader extends MessageReader<Reader>>(message: Reader) {
  const pod = readPod(message.message(runPodSandboxRequest.config));
  if (pod === undefined) return undefined;
  const identity: PodSandboxIdentity = { kind: 'podSandbox', ...pod.name, attempt: pod.attempt };
  const family = podSandboxFamily(identity);
  const read = {
    identity,
    family,
    key: keyOf(family, identity),
    logDirectory: logDirectoryOf(pod.config),
    isStatic: isStatic(pod.config),
    usesHostNetwork: usesHostNetwork(pod.config),
    runtimeHandler: message.bytes(runPodSandboxRequest.runtimeHandler).toString(),
  };
  return { read, pod };
}

function readContainer<Reader extends MessageReader<Reader>>(message: Reader) {
  const config = message.message(createContainerRequest.config);
  if (config === undefined) return undefined;
  const metadata = config.message(containerConfig.metadata);
  const pod = readPod(message.message(createContainerRequest.sandboxConfig));
  if (metadata === undefined || pod === undefined) return undefined;
  const container = readName(metadata, containerMetadata.name);
  const podSandboxId = readName(message, createContainerRequest.podSandboxId);
  if (container === '' || podSandboxId === '') return undefined;
  const identity: ContainerIdentity = {
    kind: 'container',
    ...pod.name,
    container,
    attempt: readUint32(metadata, containerMetadata.attempt),
  };
  const family = containerFamily(identity);
  const read = {
    identity,
    family,
    key: keyOf(family, identity),
    podSandboxId,
    specHash: config.entry(containerConfig.annotations, annotations.specHash)?.toString() ?? '',
    logPath: config.bytes(containerConfig.logPath).toString(),
    logDirectory: logDirectoryOf(pod.config),
    isStatic: isStatic(pod.config),
  };
  return { read, config, metadata, pod };
}

/** The family of any container, however its identity became known; see FingerprintBase. */
export function containerFamily(identity: Pick<ContainerIdentity, 'namespace' | 'name' | 'uid' | 'container'>): string {
  return JSON.stringify([identity.namespace, identity.name, identity.uid, identity.container]);
}

/** @param family As {@link containerFamily} gives it. */
export function containerOf(family: string): Pick<ContainerIdentity, 'namespace' | 'name' | 'uid' | 'container'> {
  const [namespace, name, uid, container] = JSON.parse(family);
  return { namespace, name, uid, container };
}

function podSandboxFamily(identity: Pick<PodSandboxIdentity, 'namespace' | 'name' | 'uid'>): string {
  return JSON.stringify([identity.namespace, identity.name, identity.uid]);
}

function keyOf(family: string, { attempt }: { attempt: number }): string {
  return `${family}#${attempt}`;
}

/** @param rest What of the request is not its identity. */
function inNormalForm(rest: NormalMessage) {
  const parts = partsOf(rest);
  return { digest: parts.digest, parts, tooLarge: false };
}

function tooLarge(requestName: string) {
  return { digest: '', parts: unknownParts(requestName), tooLarge: true };
}

/** @param config A ContainerConfig. Changed: to be asked for last. */
function resourcesOf(config: NormalMessage): string {
  return resourcesDigest(
    config.message(containerConfig.linux)?.message(platformConfig.resources),
    config.message(containerConfig.windows)?.message(platformConfig.resources),
  );
}

/** As resourcesOf; `''` too where the resources by themselves are too large. */
function resourcesOnWire(config: WireMessage): string {
  const parsed = (platform: number, schema: string) => {
    const resources = config.message(platform)?.message(platformConfig.resources);
    return resources && parseMessage(messageSchema(schema), resources.buffer);
  };
  const digest = unlessTooLarge(() =>
    resourcesDigest(
      parsed(containerConfig.linux, 'LinuxContainerResources'),
      parsed(containerConfig.windows, 'WindowsContainerResources'),
    ),
  );
  return digest ?? '';
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

function logDirectoryOf(sandboxConfig: AnyReader): string {
  return sandboxConfig.bytes(podSandboxConfig.logDirectory).toString();
}

function isStatic(sandboxConfig: AnyReader): boolean {
  return sandboxConfig.entry(podSandboxConfig.annotations, annotations.configSource)?.toString() === 'file';
}

function usesHostNetwork(sandboxConfig: AnyReader): boolean {
  const options = sandboxConfig
    .message(podSandboxConfig.linux)
    ?.message(linuxPodSandboxConfig.securityContext)
    ?.message(sandboxSecurityContext.namespaceOptions);
  return options !== undefined && readUint32(options, namespaceOption.network) === NamespaceMode.node;
}

/**
 * @param config A PodSandboxConfig.
 * @returns undefined where it does not name a pod.
 */
function readPod<Reader extends MessageReader<Reader>>(config: Reader | undefined) {
  if (config === undefined) return undefined;
  const metadata = config.message(podSandboxConfig.metadata);
  if (metadata === undefined) return undefined;
  const namespace = readName(metadata, podSandboxMetadata.namespace);
  const name = readName(metadata, podSandboxMetadata.name);
  const uid = readName(metadata, podSandboxMetadata.uid);
  if (namespace === '' || name === '' || uid === '') return undefined;
  const attempt = readUint32(metadata, podSandboxMetadata.attempt);
  return { config, metadata, name: { namespace, name, uid }, attempt };
}

function dropPod({ metadata }: { readonly metadata: NormalMessage }): void {
  metadata.drop(podSandboxMetadata.namespace);
  metadata.drop(podSandboxMetadata.name);
  metadata.drop(podSandboxMetadata.uid);
}

function readUint32(message: AnyReader, number: number): number {
  return Number(BigInt.asUintN(32, message.varint(number)));
}

/** @throws {WireError} Not UTF-8, which proto3 demands: two different names must never read the same. */
function readName(message: AnyReader, number: number): string {
  const bytes = message.bytes(number);
  if (!isUtf8(bytes)) throw new WireError(`field ${number} is not UTF-8`);
  return bytes.toString();
}

function unlessMalformed<Result>(read: () => Result): Result | undefined {
  return unlessThrows(WireError, read);
}

function unlessTooLarge<Result>(read: () => Result): Result | undefined {
  return unlessThrows(TooLargeError, read);
}

function unlessThrows<Result>(expected: new () => Error, read: () => Result): Result | undefined {
  try {
    return read();
  } catch (error) {
    if (error instanceof expected) return undefined;
    throw error;
  }
}

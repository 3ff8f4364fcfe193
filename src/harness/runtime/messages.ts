/**
 * CRI messages as plain objects, for both ends of the harness: the simulated runtime and the kubelet-like client. Field names are
 * those of the .proto; enums are names, 64-bit integers decimal strings, unset messages null. Knows no transport.
 */
import { messageType, service as serviceType } from '../../cri/schema.js';

export type StringMap = Readonly<Record<string, string>>;

export interface PodSandboxMetadata {
  readonly name: string;
  readonly uid: string;
  readonly namespace: string;
  readonly attempt: number;
}

export interface PodSandboxConfig {
  readonly metadata: PodSandboxMetadata | null;
  readonly log_directory: string;
  readonly labels: StringMap;
  readonly annotations: StringMap;
  readonly linux: { security_context: { namespace_options: { network: string } | null } | null } | null;
}

export interface RunPodSandboxRequest {
  readonly config: PodSandboxConfig | null;
  readonly runtime_handler: string;
}

export interface ContainerMetadata {
  readonly name: string;
  readonly attempt: number;
}

export interface ContainerConfig {
  readonly metadata: ContainerMetadata | null;
  readonly image: object | null;
  readonly mounts: readonly object[];
  readonly labels: StringMap;
  readonly annotations: StringMap;
  readonly log_path: string;
}

export interface CreateContainerRequest {
  readonly pod_sandbox_id: string;
  readonly config: ContainerConfig | null;
  readonly sandbox_config: PodSandboxConfig | null;
}

export type PodSandboxState = 'SANDBOX_READY' | 'SANDBOX_NOTREADY';
export type ContainerState = 'CONTAINER_CREATED' | 'CONTAINER_RUNNING' | 'CONTAINER_EXITED' | 'CONTAINER_UNKNOWN';

/** The bytes of a message, e.g. of type `RunPodSandboxRequest`. */
export function encode(type: string, message: object): Buffer {
  const codec = messageType(type);
  const bytes = codec.encode(codec.fromObject(message)).finish();
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** @throws {Error} The bytes are no such message. */
export function decode<T>(type: string, bytes: Uint8Array): T {
  const codec = messageType(type);
  return codec.toObject(codec.decode(bytes), { enums: String, longs: String, defaults: true }) as T;
}

export interface CriMethod {
  readonly name: string;
  readonly service: 'RuntimeService' | 'ImageService';
  readonly requestType: string;
  readonly responseType: string;
  /** Whether it answers with a stream of messages. */
  readonly streams: boolean;
}

/** Every method of proto/cri.proto, by name. */
export const criMethods: ReadonlyMap<string, CriMethod> = new Map(
  (['RuntimeService', 'ImageService'] as const).flatMap((service) =>
    Object.values(serviceType(service).methods).map((method): [string, CriMethod] => [
      method.name,
      {
        name: method.name,
        service,
        requestType: method.requestType,
        responseType: method.responseType,
        streams: method.responseStream === true,
      },
    ]),
  ),
);

/** Makes an UpdateContainerResources request of what a CreateContainer request asks for. Works on the wire, keeps unknown fields. */
import { encodeVarint, FieldCursor, wireTypes } from './wire.js';
import { WireMessage } from './wire-message.js';

// Field numbers of CRI v1.
const createContainerRequest = { config: 2 } as const;
const containerConfig = { linux: 15, windows: 16 } as const;
/** Of LinuxContainerConfig and WindowsContainerConfig. */
const platformConfig = { resources: 1 } as const;
const cpusets: ReadonlySet<number> = new Set([6, 7]);
const updateContainerResourcesRequest = { containerId: 1, linux: 2, windows: 3 } as const;

/**
 * Asks for the resources of the CreateContainer request, but for `cpuset_cpus` and `cpuset_mems`: those of a container in the
 * kubelet's shared pool move, and the kubelet itself sets them once it runs.
 *
 * A runtime takes an empty cpuset for "as it is": containerd leaves the spec's alone (WithResources in
 * internal/cri/opts/spec_linux_opts.go, in 1.6 pkg/cri/opts), CRI-O leaves it out for runc (toOCIResources in
 * server/container_update_resources.go), which then writes none (Set in libcontainer/cgroups/fs/cpuset.go). The same goes for
 * every number that is 0, so a limit is moved but never taken away, which the API server allows no resize either ("resource
 * limits cannot be removed"). Neither runtime updates `oom_score_adj`.
 *
 * @returns An UpdateContainerResourcesRequest, without annotations, as kubelets send none.
 * @throws {WireError} The request is malformed.
 */
export function updateResourcesRequest(containerId: string, createContainerRequestBytes: Buffer): Buffer {
  const config = new WireMessage(createContainerRequestBytes).message(createContainerRequest.config);
  const resources = (platform: number) => config?.message(platform)?.message(platformConfig.resources)?.buffer;
  const linux = resources(containerConfig.linux);
  const windows = resources(containerConfig.windows);
  const fields = [
    bytesField(updateContainerResourcesRequest.containerId, Buffer.from(containerId)),
    ...(linux === undefined ? [] : [bytesField(updateContainerResourcesRequest.linux, without(cpusets, linux))]),
    ...(windows === undefined ? [] : [bytesField(updateContainerResourcesRequest.windows, windows)]),
  ];
  return Buffer.concat(fields);
}

function without(numbers: ReadonlySet<number>, message: Buffer): Buffer {
  const kept: Buffer[] = [];
  const field = new FieldCursor(message);
  while (field.next()) if (!numbers.has(field.number)) kept.push(message.subarray(field.start, field.end));
  return Buffer.concat(kept);
}

function bytesField(number: number, value: Buffer): Buffer {
  return Buffer.concat([encodeVarint(number * 8 + wireTypes.bytes), encodeVarint(value.length), value]);
}

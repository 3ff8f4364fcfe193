/** The configs a kubelet sends to make a sandbox and a container, and the files and directories it makes for them. */
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { exitAnnotations } from '../exit-plan.js';
import type { StringMap } from '../runtime/messages.js';
import { gracePeriodSeconds } from './calls.js';
import type { Pod } from './pod.js';
import { podUidLabel } from './pod-status.js';

export interface PodDefaults {
  /** Absolute cgroup path; default `/kubepods/besteffort/pod<uid>`. */
  readonly cgroupParent?: string;
  /** On every sandbox and container beside those of a kubelet. */
  readonly labels?: StringMap;
}

/** Reserved in every pod's environment by the service `kubernetes` (pkg/kubelet/envvars/envvars.go). */
const serviceEnvironment: StringMap = {
  KUBERNETES_SERVICE_HOST: '10.96.0.1',
  KUBERNETES_SERVICE_PORT: '443',
  KUBERNETES_SERVICE_PORT_HTTPS: '443',
  KUBERNETES_PORT: 'tcp://10.96.0.1:443',
  KUBERNETES_PORT_443_TCP: 'tcp://10.96.0.1:443',
  KUBERNETES_PORT_443_TCP_PROTO: 'tcp',
  KUBERNETES_PORT_443_TCP_PORT: '443',
  KUBERNETES_PORT_443_TCP_ADDR: '10.96.0.1',
};

const terminationMessagePath = '/dev/termination-log';

export class Requests {
  readonly #image: string;
  readonly #defaults: PodDefaults;
  readonly #random: () => number;

  constructor(image: string, defaults: PodDefaults, random: () => number) {
    this.#image = image;
    this.#defaults = defaults;
    this.#random = random;
  }

  /** PodSandboxConfig. */
  sandbox(pod: Pod, attempt: number): object {
    const { plan, uid, logDirectory } = pod;
    mkdirSync(logDirectory, { recursive: true });
    return {
      metadata: { name: plan.name, uid, namespace: plan.namespace, attempt },
      hostname: plan.name,
      log_directory: logDirectory,
      labels: this.#labels(pod),
      annotations: {
        'kubernetes.io/config.seen': pod.seen ?? '',
        'kubernetes.io/config.source': plan.isStatic === true ? 'file' : 'api',
      },
      linux: {
        cgroup_parent: this.#defaults.cgroupParent ?? `/kubepods/besteffort/pod${uid}`,
        security_context: { namespace_options: { pid: 'CONTAINER' } },
      },
    };
  }

  /** CreateContainerRequest. */
  container(
    pod: Pod,
    name: string,
    restartCount: number,
    sandbox: { readonly id: string; readonly attempt: number },
  ): object {
    mkdirSync(path.join(pod.logDirectory, name), { recursive: true });
    return {
      pod_sandbox_id: sandbox.id,
      config: {
        metadata: { name, attempt: restartCount },
        image: { image: this.#image },
        envs: this.#environment(),
        mounts: [{ container_path: terminationMessagePath, host_path: this.#terminationLog(pod, name) }],
        labels: { 'io.kubernetes.container.name': name, ...this.#labels(pod) },
        annotations: {
          'io.kubernetes.container.hash': '5f3c2a11',
          'io.kubernetes.container.restartCount': String(restartCount),
          'io.kubernetes.container.terminationMessagePath': terminationMessagePath,
          'io.kubernetes.container.terminationMessagePolicy': 'File',
          'io.kubernetes.pod.terminationGracePeriod': String(gracePeriodSeconds),
          ...exitAnnotations(pod.plan.exits?.[name]),
        },
        log_path: logPath(name, restartCount),
        linux: {
          resources: { cpu_shares: 2, oom_score_adj: 1_000 },
          security_context: { namespace_options: { pid: 'CONTAINER' } },
        },
      },
      sandbox_config: this.sandbox(pod, sandbox.attempt),
    };
  }

  #labels({ plan, uid }: Pod): StringMap {
    return {
      ...this.#defaults.labels,
      'io.kubernetes.pod.name': plan.name,
      'io.kubernetes.pod.namespace': plan.namespace,
      [podUidLabel]: uid,
    };
  }

  /** In a new order each time: a kubelet ranges over maps (kubelet_pods.go:makeEnvironmentVariables). */
  #environment(): object[] {
    return Object.entries(serviceEnvironment)
      .map(([key, value]) => ({ key, value: Buffer.from(value), order: this.#random() }))
      .sort((a, b) => a.order - b.order);
  }

  /** A new file each time, which exists as runtimes demand of a mount (kuberuntime_container.go:makeMounts). */
  #terminationLog(pod: Pod, name: string): string {
    const directory = path.join(pod.logDirectory, 'termination-logs', name);
    mkdirSync(directory, { recursive: true });
    const digits = Math.floor(this.#random() * 2 ** 32).toString(16);
    const file = path.join(directory, digits.padStart(8, '0'));
    writeFileSync(file, '', { mode: 0o666 });
    return file;
  }
}

/** Below the pod's log directory. */
export function logPath(name: string, restartCount: number): string {
  return path.join(name, `${restartCount}.log`);
}

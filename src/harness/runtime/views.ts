/** Sandboxes and containers as a runtime shows them: in lists, statuses, stats and metrics. Knows nothing of calls. */
import type { Container, Sandbox } from './node-state.js';
import { timestamp } from './stamps.js';

/** PodSandbox, as listed. */
export function podSandbox(sandbox: Sandbox): object {
  const { id, metadata, state, createdAt, config, runtimeHandler } = sandbox;
  return {
    id,
    metadata,
    state,
    created_at: createdAt,
    labels: config.labels,
    annotations: config.annotations,
    runtime_handler: runtimeHandler,
  };
}

/** Container, as listed. */
export function listedContainer(container: Container): object {
  const { id, sandboxId, metadata, config, state, createdAt } = container;
  return {
    id,
    pod_sandbox_id: sandboxId,
    metadata,
    image: config.image ?? undefined,
    image_ref: 'sha256:0',
    state,
    created_at: createdAt,
    labels: config.labels,
    annotations: config.annotations,
  };
}

export function podSandboxStatus(sandbox: Sandbox): object {
  const network = sandbox.config.linux?.security_context?.namespace_options?.network ?? 'POD';
  return {
    id: sandbox.id,
    metadata: sandbox.metadata,
    state: sandbox.state,
    created_at: sandbox.createdAt,
    network: { ip: network === 'NODE' || sandbox.state === 'SANDBOX_NOTREADY' ? '' : sandbox.ip },
    linux: { namespaces: { options: { network } } },
    labels: sandbox.config.labels,
    annotations: sandbox.config.annotations,
    runtime_handler: sandbox.runtimeHandler,
  };
}

export function containerStatus(container: Container): object {
  const { config } = container;
  return {
    id: container.id,
    metadata: container.metadata,
    state: container.state,
    created_at: container.createdAt,
    started_at: container.startedAt,
    finished_at: container.finishedAt,
    exit_code: container.exitCode,
    image: config.image ?? undefined,
    image_ref: 'sha256:0',
    reason: container.reason,
    message: container.message,
    labels: config.labels,
    annotations: config.annotations,
    mounts: config.mounts,
    log_path: container.logFile ?? '',
  };
}

export function containerStats(container: Container): object {
  const at = timestamp();
  return {
    attributes: {
      id: container.id,
      metadata: container.metadata,
      labels: container.config.labels,
      annotations: container.config.annotations,
    },
    ...(container.state === 'CONTAINER_RUNNING'
      ? {
          cpu: { timestamp: at, usage_core_nano_seconds: { value: 1_000_000 } },
          memory: { timestamp: at, working_set_bytes: { value: 1 << 20 } },
        }
      : {}),
    writable_layer: { timestamp: at, fs_id: { mountpoint: '/var/lib/simulated' }, used_bytes: { value: 4096 } },
  };
}

export function podSandboxStats(sandbox: Sandbox, containers: readonly Container[]): object {
  return {
    attributes: {
      id: sandbox.id,
      metadata: sandbox.metadata,
      labels: sandbox.config.labels,
      annotations: sandbox.config.annotations,
    },
    linux: { cpu: { timestamp: timestamp() }, containers: containers.map(containerStats) },
  };
}

export function podSandboxMetrics(sandbox: Sandbox, containers: readonly Container[]): object {
  const metric = (labels: readonly string[]): object => ({
    name: 'container_last_seen',
    timestamp: timestamp(),
    metric_type: 'GAUGE',
    label_values: labels,
    value: { value: 1 },
  });
  return {
    pod_sandbox_id: sandbox.id,
    metrics: [metric([sandbox.id, sandbox.metadata.name])],
    container_metrics: containers.map((container) => ({
      container_id: container.id,
      metrics: [metric([container.id, container.metadata.name])],
    })),
  };
}

/** Everything `holdfast serve` can be told, complete and checked. Durations are in ms. */
export interface HoldfastConfig {
  /** Absolute path of the unix socket the kubelet connects to. */
  readonly listen: string;
  /** Absolute path of the runtime's unix socket. */
  readonly runtime: string;
  /** File mode of `listen`, e.g. 0o660; undefined: owner and mode of the runtime's socket. */
  readonly socketMode: number | undefined;
  readonly creationTimeoutMs: number;
  readonly holdTtlMs: number;
  readonly replayTtlMs: number;
  /** Bound of remembered creations (least recently used ones go first). */
  readonly maxEntries: number;
  readonly onDrift: 'keep' | 'recreate';
  readonly onAttemptBump: 'join' | 'recreate';
  /** Annotations that differ between two tries without meaning anything. */
  readonly volatileAnnotations: readonly string[];
  /** Whether `<attempt n+1>.log` is linked to `<attempt n>.log` when attempt n answers a request for n+1. */
  readonly linkLogs: boolean;
  /** Creations and starts carried out at once. */
  readonly maxCreations: number;
  readonly drainTimeoutMs: number;
  readonly logLevel: 'fatal' | 'error' | 'warn' | 'info' | 'debug' | 'trace';
  /** Where /metrics is served; undefined: nowhere. */
  readonly metrics: { readonly host: string; readonly port: number } | undefined;
}

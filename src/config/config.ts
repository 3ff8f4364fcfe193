export interface HandlerLimit {
  readonly handler: string;
  readonly limit: number;
}

/** Everything `holdfast serve` can be told, complete and checked. Durations are in ms. */
export interface HoldfastConfig {
  /** Absolute path of the unix socket the kubelet connects to. */
  readonly listen: string;
  /** Absolute path of the runtime's unix socket. */
  readonly runtime: string;
  /** File mode of `listen`, e.g. 0o660; undefined: owner and mode of the runtime's socket. */
  readonly socketMode: number | undefined;
  readonly creationTimeoutMs: number;
  /** After how long a name that the runtime has reserved is reported as a wedge. */
  readonly wedgeAfterMs: number;
  /** So many times as long as others a creation may take before it is given up and made anew; off: `creationTimeoutMs`. */
  readonly giveUpTimes: number | 'off';
  /** And at least this long; undefined: twice its deadline, but no less than 30 s. */
  readonly giveUpAfterMs: number | undefined;
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
  /** How it is decided how many creations and starts are carried out at once; `fixed`: `maxCreations`. */
  readonly admission: 'adaptive' | 'fixed' | 'off';
  readonly maxCreations: number;
  /** Of the adaptive limit; undefined: its own. */
  readonly minCreations: number | undefined;
  readonly startCreations: number | undefined;
  /** Percent of its deadline that a creation or start may take before it counts as late. */
  readonly lateAfter: number;
  /** Percent of the limit that are left when it goes down. */
  readonly decreaseTo: number;
  /** Percent, `some avg10`. */
  readonly pressureCpu: number | 'off';
  readonly pressureIo: number | 'off';
  readonly pressureMemory: number | 'off';
  /** Directory of the cgroup whose pressure is read; undefined: the machine's. */
  readonly pressureCgroup: string | undefined;
  /** Pod sandboxes of one runtime handler made at once. */
  readonly handlerLimits: readonly HandlerLimit[];
  readonly criticalNamespaces: readonly string[];
  /** Places that only static and critical pods get, beyond every limit. */
  readonly ownPlaces: number;
  /** How much of what hangs does not count against a limit. */
  readonly maxHung: number;
  /** Creations begun per second; undefined: no such limit. */
  readonly creationRate: number | undefined;
  /** Creations begun at once after a quiet time; undefined: as many as in a second. */
  readonly creationBurst: number | undefined;
  readonly drainTimeoutMs: number;
  readonly logLevel: 'fatal' | 'error' | 'warn' | 'info' | 'debug' | 'trace';
  /** Absolute path of the unix socket of the admin endpoint; undefined: there is none. */
  readonly admin: string | undefined;
  /** The group that may use it, by name or number; undefined: the owner alone may. */
  readonly adminGroup: string | undefined;
  /** Where /metrics is served; undefined: nowhere. */
  readonly metrics: { readonly host: string; readonly port: number } | undefined;
  /** Where spans are posted to; undefined: nowhere, and none are made. */
  readonly otlp: string | undefined;
}

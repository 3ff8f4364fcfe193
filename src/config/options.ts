/**
 * The one table of everything `holdfast serve` can be told. Command line, --help, config file, environment and defaults are
 * all read off it; how values are looked up and combined is resolve.ts.
 */
import { availableParallelism } from 'node:os';
import type { HoldfastConfig } from './config.js';
import {
  address,
  annotationName,
  choice,
  collector,
  count,
  directory,
  distinctBy,
  duration,
  endpoint,
  fileMode,
  flag,
  group,
  handlerLimit,
  type Kind,
  listOf,
  namespace,
  orOff,
  percent,
  rate,
} from './kinds.js';

export interface Option<T> {
  /** As on the command line without the dashes; also the key in the config file. */
  readonly name: string;
  /** Heading in --help. */
  readonly group: 'Sockets' | 'Creations' | 'Admission' | 'Memory' | 'Shutdown' | 'Logs and metrics';
  readonly kind: Kind<Exclude<T, undefined>>;
  /** As it would be given. Without one the value is undefined unless given, and if `required` an error. */
  readonly default?: string;
  /** The default in words, where `default` does not say it or is another on another machine. */
  readonly defaultText?: string;
  readonly required?: true;
  /** May be given more than once on the command line. */
  readonly repeatable?: true;
  readonly description: string;
}

export type OptionTable = { readonly [K in keyof HoldfastConfig]: Option<HoldfastConfig[K]> };

const maxCreations = String(Math.max(64, 16 * availableParallelism()));

export const options: OptionTable = {
  listen: {
    name: 'listen',
    group: 'Sockets',
    kind: endpoint,
    required: true,
    description: 'Unix socket for the kubelet to connect to: unix:///run/holdfast/holdfast.sock',
  },
  runtime: {
    name: 'runtime',
    group: 'Sockets',
    kind: endpoint,
    required: true,
    description: 'Unix socket of the container runtime: unix:///run/containerd/containerd.sock',
  },
  socketMode: {
    name: 'socket-mode',
    group: 'Sockets',
    kind: fileMode,
    defaultText: "the mode of the runtime's socket, 0660 while it is unknown",
    description: "Permission bits of the listening socket, in octal. Its owner is that of the runtime's socket",
  },
  creationTimeoutMs: {
    name: 'creation-timeout',
    group: 'Creations',
    kind: duration('100ms', '24h'),
    default: '15m',
    description:
      'How long the runtime may take over one pod sandbox, container or start, whoever stopped waiting for it',
  },
  wedgeAfterMs: {
    name: 'wedge-after',
    group: 'Creations',
    kind: duration('1s', '24h'),
    default: '2m',
    description:
      'After how long a name that the runtime has reserved, and of which nothing is to be seen, is reported as one that will ' +
      'not get free by itself. It is tried again all the same',
  },
  giveUpTimes: {
    name: 'give-up-times',
    group: 'Creations',
    kind: orOff(count(2, 10_000)),
    default: '10',
    description: 'A pod sandbox that takes so many times as long as others took meanwhile is cancelled and made anew',
  },
  giveUpAfterMs: {
    name: 'give-up-after',
    group: 'Creations',
    kind: duration('1s', '24h'),
    defaultText: 'twice its deadline, at least 30s',
    description: 'But not before it has taken this long; four times as long each further time',
  },
  onDrift: {
    name: 'on-drift',
    group: 'Creations',
    kind: choice('keep', 'recreate'),
    default: 'keep',
    description:
      'What to do if a retry differs in more than what never matters: keep what is being or has been made, or remove it ' +
      'and make it anew',
  },
  onAttemptBump: {
    name: 'on-attempt-bump',
    group: 'Creations',
    kind: choice('join', 'recreate'),
    default: 'join',
    description:
      'What to do if the next attempt of a container is asked for before the last one was delivered: join gives it that ' +
      'one, recreate removes that one first',
  },
  volatileAnnotations: {
    name: 'volatile-annotation',
    group: 'Creations',
    kind: listOf(annotationName),
    default: 'kubernetes.io/config.seen',
    repeatable: true,
    description: 'Annotation that may differ between two tries of one creation. May be repeated; replaces the default',
  },
  linkLogs: {
    name: 'link-logs',
    group: 'Creations',
    kind: flag,
    default: 'true',
    description:
      "Where a container answers for its next attempt, link that attempt's log file to the real one, so that log " +
      'collectors find it',
  },
  admission: {
    name: 'admission',
    group: 'Admission',
    kind: choice('adaptive', 'fixed', 'off'),
    default: 'adaptive',
    description:
      'How many creations and starts are carried out at once, while the others wait for their turn: adaptive, as many as ' +
      'the node can do; fixed, --max-creations; off, all of them',
  },
  maxCreations: {
    name: 'max-creations',
    group: 'Admission',
    kind: count(1, 10_000),
    default: maxCreations,
    defaultText: 'the larger of 64 and 16 per core',
    description: 'Highest limit, and with --admission fixed the limit',
  },
  minCreations: {
    name: 'min-creations',
    group: 'Admission',
    kind: count(1, 10_000),
    defaultText: '2',
    description: 'Lowest limit of --admission adaptive',
  },
  startCreations: {
    name: 'start-creations',
    group: 'Admission',
    kind: count(1, 10_000),
    defaultText: 'the larger of 8 and 4 per core',
    description: 'Limit that --admission adaptive begins with',
  },
  lateAfter: {
    name: 'late-after',
    group: 'Admission',
    kind: percent(100),
    default: '50',
    description: 'Percent of the deadline a creation or start may take; one that takes longer makes the limit go down',
  },
  decreaseTo: {
    name: 'decrease-to',
    group: 'Admission',
    kind: percent(99),
    default: '60',
    description: 'Percent of the limit that are left when it goes down',
  },
  pressureCpu: {
    name: 'pressure-cpu',
    group: 'Admission',
    kind: orOff(percent(100)),
    default: '90',
    description:
      'CPU pressure (percent, some avg10 in /proc/pressure/cpu) above which the limit goes down, once per 10 s',
  },
  pressureIo: {
    name: 'pressure-io',
    group: 'Admission',
    kind: orOff(percent(100)),
    default: '80',
    description: 'The same for I/O pressure',
  },
  pressureMemory: {
    name: 'pressure-memory',
    group: 'Admission',
    kind: orOff(percent(100)),
    default: '20',
    description: 'The same for memory pressure',
  },
  pressureCgroup: {
    name: 'pressure-cgroup',
    group: 'Admission',
    kind: directory,
    defaultText: 'the whole machine',
    description: 'Directory of the cgroup (v2) whose pressure is read, like /sys/fs/cgroup/system.slice',
  },
  handlerLimits: {
    name: 'handler-limit',
    group: 'Admission',
    kind: distinctBy(({ handler }) => handler, listOf(handlerLimit)),
    default: '',
    defaultText: 'none',
    repeatable: true,
    description: 'HANDLER=N: at most N pod sandboxes of this runtime handler are made at once. May be repeated',
  },
  criticalNamespaces: {
    name: 'critical-namespace',
    group: 'Admission',
    kind: listOf(namespace),
    default: 'kube-system',
    repeatable: true,
    description:
      'Namespace whose pods come before all but static pods. May be repeated; replaces the default, and empty is none',
  },
  ownPlaces: {
    name: 'own-places',
    group: 'Admission',
    kind: count(0, 10_000),
    default: '4',
    description: 'Creations and starts of static and critical pods that go beyond every limit',
  },
  maxHung: {
    name: 'max-hung',
    group: 'Admission',
    kind: count(0, 10_000),
    default: '64',
    description:
      'Creations and starts that may hang, taking twice as long as others do, without counting against a limit',
  },
  creationRate: {
    name: 'creation-rate',
    group: 'Admission',
    kind: rate(10_000),
    defaultText: 'no such limit',
    description: 'Pod sandboxes and containers begun per second at most, for nodes that share a CNI controller',
  },
  creationBurst: {
    name: 'creation-burst',
    group: 'Admission',
    kind: count(1, 10_000),
    defaultText: 'as many as in a second',
    description: 'Pod sandboxes and containers that may begin at once after a quiet time, with --creation-rate',
  },
  holdTtlMs: {
    name: 'hold-ttl',
    group: 'Memory',
    kind: duration('100ms', '24h'),
    default: '15m',
    description: 'How long a finished container nobody asked for again is held before it is removed',
  },
  replayTtlMs: {
    name: 'replay-ttl',
    group: 'Memory',
    kind: duration('100ms', '24h'),
    default: '15m',
    description: 'How long an answer can be given again, until the id in it is first used',
  },
  maxEntries: {
    name: 'max-entries',
    group: 'Memory',
    kind: count(1, 1_000_000),
    default: '10000',
    description: 'Creations remembered at most, the least recently used forgotten first',
  },
  drainTimeoutMs: {
    name: 'drain-timeout',
    group: 'Shutdown',
    kind: duration('0s', '1h'),
    default: '10s',
    description: 'How long calls in flight may take to end after SIGTERM or SIGINT; a second signal ends it at once',
  },
  logLevel: {
    name: 'log-level',
    group: 'Logs and metrics',
    kind: choice('fatal', 'error', 'warn', 'info', 'debug', 'trace'),
    default: 'info',
    description: 'Least severe level to log: fatal, error, warn, info, debug or trace. Logs are JSON lines on stdout',
  },
  admin: {
    name: 'admin',
    group: 'Logs and metrics',
    kind: endpoint,
    defaultText: 'off',
    description:
      'Unix socket for metrics, health, `holdfast status` and profiles, for root alone: unix:///run/holdfast/admin.sock',
  },
  adminGroup: {
    name: 'admin-group',
    group: 'Logs and metrics',
    kind: group,
    defaultText: 'none',
    description: 'Group that may use --admin too, by name or number. A heap profile shows whatever is in memory',
  },
  metrics: {
    name: 'metrics',
    group: 'Logs and metrics',
    kind: address,
    defaultText: 'off',
    description:
      'ADDR:PORT to serve Prometheus metrics on, at /metrics, and /healthz and /readyz: 127.0.0.1:9090, [::1]:9090 or :9090',
  },
  otlp: {
    name: 'otlp',
    group: 'Logs and metrics',
    kind: collector,
    defaultText: 'off',
    description:
      'OpenTelemetry collector that gets spans of creations and starts whose caller is traced: http://127.0.0.1:4318',
  },
};

/** Names the config file; no setting of Holdfast itself, so not to be given in that file. */
export const configOption = {
  name: 'config',
  group: 'Sockets',
  description: 'YAML or JSON file with any of these options, named as here without the dashes',
} as const;

/** @returns The environment variable of an option: `creation-timeout` is HOLDFAST_CREATION_TIMEOUT. */
export function environmentName(optionName: string): string {
  return `HOLDFAST_${optionName.toUpperCase().replaceAll('-', '_')}`;
}

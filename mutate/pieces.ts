/** What is broken together, and the tests that have to notice: each piece is small enough to be run on its own. */
import { readdirSync } from 'node:fs';

export interface Piece {
  readonly name: string;
  readonly folder: string;
  /** Undefined: those of the folder that no other piece names. */
  readonly files?: readonly string[];
  /** The quickest first: the first one that fails ends the run of a mutant. */
  readonly tests: readonly string[];
}

export const pieces: readonly Piece[] = [
  {
    name: 'throttle-hung',
    folder: 'src/throttle',
    files: ['hung-work.ts'],
    tests: ['test/throttle/hung-work.test.ts', 'test/throttle/hung-nodes.test.ts'],
  },
  {
    name: 'throttle-recent-times',
    folder: 'src/throttle',
    files: ['recent-times.ts'],
    tests: ['test/throttle/recent-times.test.ts', 'test/throttle/hung-work.test.ts'],
  },
  {
    name: 'throttle-queue',
    folder: 'src/throttle',
    files: ['arrival-order.ts', 'lenders.ts', 'work-queue.ts'],
    tests: [
      'test/throttle/arrival-order.test.ts',
      'test/throttle/lenders.test.ts',
      'test/throttle/work-queue.test.ts',
      'test/throttle/admission.test.ts',
    ],
  },
  {
    name: 'throttle-admission',
    folder: 'src/throttle',
    files: ['admission.ts', 'admission-view.ts'],
    tests: ['test/throttle/admission.test.ts', 'test/throttle/hung-nodes.test.ts'],
  },
  {
    name: 'throttle-limit',
    folder: 'src/throttle',
    tests: [
      'test/throttle/concurrency-limit.test.ts',
      'test/throttle/pace.test.ts',
      'test/throttle/usual-time.test.ts',
      'test/throttle/pressure.test.ts',
      'test/throttle/adaptive-limit.test.ts',
      'test/throttle/storm.test.ts',
    ],
  },
  {
    name: 'proxy-listen',
    folder: 'src/proxy',
    files: ['listen.ts'],
    tests: ['test/proxy/listen.test.ts'],
  },
  {
    name: 'proxy-passed-socket',
    folder: 'src/proxy',
    files: ['descriptor.ts', 'passed-socket.ts'],
    tests: ['test/proxy/descriptor.test.ts', 'test/proxy/passed-socket.test.ts'],
  },
  {
    name: 'proxy-socket-watch',
    folder: 'src/proxy',
    files: ['socket-watch.ts'],
    tests: ['test/proxy/socket-watch.test.ts'],
  },
  {
    name: 'proxy-connections',
    folder: 'src/proxy',
    files: ['connections.ts'],
    tests: ['test/proxy/connections.test.ts'],
  },
  {
    name: 'proxy-name-holder',
    folder: 'src/proxy',
    files: ['name-holder.ts'],
    tests: ['test/proxy/name-holder.test.ts'],
  },
  {
    name: 'proxy-call-path',
    folder: 'src/proxy',
    files: ['call-path.ts', 'core.ts'],
    tests: ['test/proxy/call-path.test.ts', 'test/proxy/core.test.ts', 'test/proxy/inspection.test.ts'],
  },
  {
    name: 'proxy-faults',
    folder: 'src/proxy',
    files: ['faults.ts'],
    tests: ['test/proxy/faults.test.ts'],
  },
  {
    name: 'proxy-call-traces',
    folder: 'src/proxy',
    files: ['call-traces.ts'],
    tests: ['test/proxy/call-traces.test.ts'],
  },
  {
    name: 'proxy-creation-calls',
    folder: 'src/proxy',
    files: ['creation-calls.ts'],
    tests: ['test/proxy/creation-calls.test.ts'],
  },
  {
    name: 'proxy-own-calls',
    folder: 'src/proxy',
    files: ['own-calls.ts', 'rescue.ts'],
    tests: ['test/proxy/own-calls.test.ts', 'test/proxy/rescue.test.ts'],
  },
  {
    name: 'proxy-runtime',
    folder: 'src/proxy',
    files: ['cri-runtime.ts'],
    tests: ['test/proxy/cri-runtime.test.ts'],
  },
  {
    name: 'proxy-hiding',
    folder: 'src/proxy',
    files: ['hiding.ts'],
    tests: ['test/proxy/hiding.test.ts'],
  },
  {
    name: 'proxy-events',
    folder: 'src/proxy',
    files: ['events.ts'],
    tests: ['test/proxy/events.test.ts'],
  },
  {
    name: 'proxy-life-log',
    folder: 'src/proxy',
    files: ['life-log.ts'],
    tests: ['test/proxy/life-log.test.ts'],
  },
  {
    name: 'proxy-told',
    folder: 'src/proxy',
    files: ['patience.ts', 'progress-text.ts'],
    tests: ['test/proxy/patience.test.ts', 'test/proxy/progress-text.test.ts'],
  },
  {
    name: 'proxy-inspection',
    folder: 'src/proxy',
    files: ['creation-report.ts', 'inspection.ts', 'kubelet-signs.ts', 'runtime-probe.ts'],
    tests: [
      'test/proxy/kubelet-signs.test.ts',
      'test/proxy/runtime-probe.test.ts',
      'test/proxy/creation-report.test.ts',
      'test/proxy/inspection.test.ts',
    ],
  },
  {
    name: 'proxy-pod-logs',
    folder: 'src/proxy',
    files: ['pod-logs.ts', 'pod-log-links.ts'],
    tests: ['test/proxy/pod-log-links.test.ts', 'test/proxy/pod-logs.test.ts'],
  },
  {
    name: 'proxy-crio-scars',
    folder: 'src/proxy',
    files: ['reserved-name.ts', 'stalled-creation.ts'],
    tests: ['test/proxy/reserved-name.test.ts', 'test/proxy/stalled-creation.test.ts'],
  },
  {
    name: 'proxy-whole',
    folder: 'src/proxy',
    files: ['holdfast.ts'],
    tests: ['test/proxy/holdfast.test.ts', 'test/proxy/shutdown.test.ts'],
  },
  {
    name: 'proxy-parts',
    folder: 'src/proxy',
    tests: [
      'test/proxy/turns.test.ts',
      'test/proxy/runtime-presence.test.ts',
      'test/proxy/relay.test.ts',
      'test/proxy/new-admission.test.ts',
      'test/proxy/warm-up.test.ts',
      'test/proxy/admission.test.ts',
    ],
  },
  {
    name: 'http2-call-ends',
    folder: 'src/proxy/http2',
    files: ['call-ends.ts', 'turn-clock.ts'],
    tests: [
      'test/proxy/http2/turn-clock.test.ts',
      'test/proxy/http2/call-ends.test.ts',
      'test/proxy/http2/ended-calls.test.ts',
    ],
  },
  {
    name: 'http2-pings',
    folder: 'src/proxy/http2',
    files: ['pings.ts'],
    tests: ['test/proxy/http2/pings.test.ts'],
  },
  {
    name: 'http2-frames',
    folder: 'src/proxy/http2',
    files: ['frame-scanner.ts', 'frames.ts'],
    tests: ['test/proxy/http2/frames.test.ts', 'test/proxy/http2/frame-scanner.test.ts'],
  },
  {
    name: 'http2-dialer',
    folder: 'src/proxy/http2',
    files: ['dialer.ts'],
    tests: ['test/proxy/http2/dialer.test.ts'],
  },
  {
    name: 'cache-fingerprint',
    folder: 'src/cache',
    files: ['fingerprint.ts'],
    tests: ['test/cache/fingerprint.test.ts'],
  },
  {
    name: 'cache-normal-form',
    folder: 'src/cache',
    files: ['normal-form.ts'],
    tests: ['test/cache/normal-form.test.ts'],
  },
  {
    name: 'cache-drift',
    folder: 'src/cache',
    files: ['drift.ts', 'resources-digest.ts'],
    tests: ['test/cache/resources-digest.test.ts', 'test/cache/drift.test.ts'],
  },
  {
    name: 'cache-creation',
    folder: 'src/cache',
    files: ['creation.ts'],
    tests: ['test/cache/creation.test.ts'],
  },
  {
    name: 'cache-creation-index',
    folder: 'src/cache',
    files: ['creation-index.ts', 'id-prefix.ts'],
    tests: ['test/cache/creation-index.test.ts', 'test/cache/id-prefix.test.ts'],
  },
  {
    name: 'cache-creation-life',
    folder: 'src/cache',
    files: ['creation-life.ts'],
    tests: ['test/cache/creation-life.test.ts'],
  },
  {
    name: 'cache-creation-lives',
    folder: 'src/cache',
    files: ['creation-lives.ts'],
    tests: ['test/cache/creation-lives.test.ts', 'test/cache/store-faults.test.ts'],
  },
  {
    name: 'cache-relation',
    folder: 'src/cache',
    files: ['request-relation.ts'],
    tests: ['test/cache/request-relation.test.ts'],
  },
  {
    name: 'cache-work',
    folder: 'src/cache',
    files: ['creation-work.ts', 'times-given-up.ts'],
    tests: [
      'test/cache/times-given-up.test.ts',
      'test/cache/creation-work.test.ts',
      'test/cache/creation-store-steps.test.ts',
      'test/cache/giving-up.test.ts',
      'test/cache/resources.test.ts',
      'test/cache/creation-handover.test.ts',
      'test/cache/creation-store-ids.test.ts',
      'test/cache/creation-store.test.ts',
      'test/cache/creation-races.test.ts',
      'test/cache/store-faults.test.ts',
    ],
  },
  {
    name: 'cache-handover',
    folder: 'src/cache',
    files: ['creation-handover.ts'],
    tests: [
      'test/cache/creation-handover.test.ts',
      'test/cache/creation-store-steps.test.ts',
      'test/cache/creation-progress.test.ts',
      'test/cache/resources.test.ts',
      'test/cache/creation-store.test.ts',
    ],
  },
  {
    name: 'cache-told',
    folder: 'src/cache',
    files: ['creation-census.ts', 'creation-progress.ts', 'creation-view.ts', 'start-census.ts', 'start-progress.ts'],
    tests: [
      'test/cache/start-progress.test.ts',
      'test/cache/creation-progress.test.ts',
      'test/cache/start-census.test.ts',
      'test/cache/creation-census.test.ts',
    ],
  },
  {
    name: 'cache-forget',
    folder: 'src/cache',
    files: ['forget-by-hand.ts'],
    tests: ['test/cache/forget-by-hand.test.ts'],
  },
  {
    name: 'cache-store',
    folder: 'src/cache',
    files: ['creation-store.ts', 'progress.ts'],
    tests: [
      'test/cache/creation-store-steps.test.ts',
      'test/cache/creation-store-ids.test.ts',
      'test/cache/creation-work.test.ts',
      'test/cache/creation-handover.test.ts',
      'test/cache/creation-census.test.ts',
      'test/cache/forget-by-hand.test.ts',
      'test/cache/creation-store.test.ts',
      'test/cache/creation-races.test.ts',
      'test/cache/store-faults.test.ts',
    ],
  },
  {
    name: 'cache-guard',
    folder: 'src/cache',
    files: ['second-copy-guard.ts', 'set-map.ts'],
    tests: ['test/cache/set-map.test.ts', 'test/cache/second-copy-guard.test.ts'],
  },
  {
    name: 'cache-start-index',
    folder: 'src/cache',
    files: ['start-index.ts'],
    tests: ['test/cache/start-index.test.ts', 'test/cache/start-store.test.ts'],
  },
  {
    name: 'cache-starts',
    folder: 'src/cache',
    files: ['start.ts', 'start-identification.ts', 'start-runtime.ts', 'start-store.ts'],
    tests: [
      'test/cache/start-identification.test.ts',
      'test/cache/start-store.test.ts',
      'test/cache/start-census.test.ts',
      'test/cache/store-faults.test.ts',
    ],
  },
  {
    name: 'cache-calls',
    folder: 'src/cache',
    files: ['abandoned-calls.ts', 'creation-runtime.ts', 'detached-call.ts', 'detached-calls.ts'],
    tests: [
      'test/cache/detached-call.test.ts',
      'test/cache/detached-calls.test.ts',
      'test/cache/abandoned-calls.test.ts',
      'test/cache/creation-runtime.test.ts',
      'test/cache/store-faults.test.ts',
    ],
  },
  {
    name: 'cache-parts',
    folder: 'src/cache',
    tests: [
      'test/cache/oldest.test.ts',
      'test/cache/failure-backoff.test.ts',
      'test/cache/preparation.test.ts',
      'test/cache/hidden-containers.test.ts',
      'test/cache/given-up-removals.test.ts',
      'test/cache/reaper.test.ts',
      'test/cache/name-reservations.test.ts',
      'test/cache/creation-census.test.ts',
      'test/cache/forget-by-hand.test.ts',
    ],
  },
];

/** The files of a piece, relative to the project. */
export function sourcesOf({ folder, files }: Piece): readonly string[] {
  const named = new Set(pieces.flatMap((piece) => (piece.folder === folder ? (piece.files ?? []) : [])));
  const rest = () => readdirSync(folder).filter((file) => file.endsWith('.ts') && !named.has(file));
  return (files ?? rest()).map((file) => `${folder}/${file}`);
}

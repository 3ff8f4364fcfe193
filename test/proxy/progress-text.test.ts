import t from 'tap';
import type { Kind } from '../../src/admin/metrics.js';
import type { Obstacle, Progress } from '../../src/cache/progress.js';
import { type Load, progressText, wedgeRemedy } from '../../src/proxy/progress-text.js';
import { UpstreamStatusError } from '../../src/proxy/upstream.js';

const nowMs = 200_000;
const wedgeAfterMs = 120_000;
const load = { limit: 9, hung: 0, pressure: new Map([['cpu', 92.6]]) };
const say = (kind: Kind, progress: Progress | undefined, of: Load = load) =>
  progressText(kind, progress, nowMs, of, wedgeAfterMs);
const waiting = (obstacle: Obstacle): Progress => ({ at: 'waiting', sinceMs: 0, for: obstacle });
const busy = new UpstreamStatusError({ code: 2, message: 'device or resource busy', trailers: [] });

const texts: ReadonlyArray<readonly [string, Kind, Progress | undefined, string]> = [
  [
    'running',
    'podSandbox',
    { at: 'running', sinceMs: 82_000 },
    'holdfast: the runtime is still making this pod sandbox after 118 s; it goes on, ask again',
  ],
  [
    'running, of a container',
    'container',
    { at: 'running', sinceMs: 195_000 },
    'holdfast: the runtime is still making this container after 5 s; it goes on, ask again',
  ],
  [
    'running, of a start: a kubelet does not ask for that again',
    'start',
    { at: 'running', sinceMs: 195_000 },
    'holdfast: the runtime is still starting this container after 5 s; it goes on',
  ],
  [
    'queued',
    'podSandbox',
    { at: 'queued', sinceMs: 180_000, behind: 14 },
    'holdfast: this pod sandbox has been queued for 20 s behind 14 (limit 9, cpu pressure 93 %); it keeps its place, ask again',
  ],
  [
    'queued, of a start',
    'start',
    { at: 'queued', sinceMs: 180_000, behind: 0 },
    'holdfast: the start of this container has been queued for 20 s behind 0 (limit 9, cpu pressure 93 %); it keeps its place',
  ],
  [
    'made, and the runtime is asked how it is',
    'container',
    { at: 'checked', sinceMs: 190_000 },
    'holdfast: this container is made, and the runtime has not said for 10 s how it is; ask again',
  ],
  [
    'paused',
    'podSandbox',
    waiting({ what: 'pause', failures: 5, untilMs: 212_000 }),
    'holdfast: making this pod sandbox has failed 5 times in a row; the next try is in 12 s; ask again',
  ],
  [
    'paused, and the next try is due',
    'container',
    waiting({ what: 'pause', failures: 5, untilMs: 190_000 }),
    'holdfast: making this container has failed 5 times in a row; the next try is in 0 s; ask again',
  ],
  [
    'waiting for one that is still being made',
    'container',
    waiting({ what: 'removal', id: undefined, sinceMs: 170_000, error: () => undefined }),
    'holdfast: the container before it is still being made, waited for since 30 s; ask again',
  ],
  [
    'waiting for a removal',
    'container',
    waiting({ what: 'removal', id: '0123456789abcdef', sinceMs: 170_000, error: () => undefined }),
    'holdfast: the container before it (0123456789abc) is still to be removed, waited for since 30 s; ask again',
  ],
  [
    'waiting for a removal that fails',
    'container',
    waiting({ what: 'removal', id: '0123456789abcdef', sinceMs: 170_000, error: () => busy }),
    'holdfast: the container before it (0123456789abc) cannot be removed: device or resource busy; ask again',
  ],
  [
    'waiting for a removal that fails, of nobody knows what',
    'podSandbox',
    waiting({ what: 'removal', id: undefined, sinceMs: 170_000, error: () => busy }),
    'holdfast: the pod sandbox before it (of unknown id) cannot be removed: device or resource busy; ask again',
  ],
  [
    'waiting for a start',
    'container',
    waiting({ what: 'start', containerId: '0123456789abcdef', attempt: 0, sinceMs: 150_000 }),
    'holdfast: attempt 0 of this container (0123456789abc) is still being started after 50 s; ask again',
  ],
  [
    'waiting for a name',
    'podSandbox',
    waiting({ what: 'name', id: 'x', sinceMs: 195_000, error: undefined }),
    'holdfast: the runtime has had the name of this pod sandbox reserved for x for 5 s, of which nothing is to be seen yet; it is tried again; ask again',
  ],
  [
    'waiting for a name of nobody knows whom',
    'podSandbox',
    waiting({ what: 'name', id: undefined, sinceMs: 195_000, error: busy }),
    'holdfast: the runtime has had the name of this pod sandbox reserved for 5 s, device or resource busy; it is tried again; ask again',
  ],
  [
    'a moment before it is wedged',
    'podSandbox',
    waiting({ what: 'name', id: 'x', sinceMs: 80_001, error: undefined }),
    'holdfast: the runtime has had the name of this pod sandbox reserved for x for 120 s, of which nothing is to be seen yet; it is tried again; ask again',
  ],
  [
    'wedged',
    'podSandbox',
    waiting({ what: 'name', id: 'x', sinceMs: 80_000, error: undefined }),
    'holdfast: the runtime has had the name of this pod sandbox reserved for x for 120 s, of which nothing is to be seen yet; it will not get free by itself: try "crictl rmp --force x", else restart the runtime; ask again',
  ],
  [
    'wedged, of a container',
    'container',
    waiting({ what: 'name', id: undefined, sinceMs: 0, error: undefined }),
    'holdfast: the runtime has had the name of this container reserved for 200 s, of which nothing is to be seen yet; it will not get free by itself: restart the runtime; ask again',
  ],
  ['unknown, of a pod sandbox', 'podSandbox', undefined, 'holdfast: this pod sandbox is still waited for'],
  ['unknown, of a container', 'container', undefined, 'holdfast: this container is still waited for'],
  ['unknown, of a start', 'start', undefined, 'holdfast: this container is still waited for'],
];

for (const [what, kind, progress, text] of texts) {
  t.test(`18: ${what}`, async (t) => t.equal(say(kind, progress), text));
}

for (const [what, of, text] of [
  ['nothing else is known', { limit: 1, hung: 0, pressure: new Map() }, 'limit 1'],
  ['some of it hangs', { limit: 8, hung: 1, pressure: new Map() }, 'limit 8, 1 hang'],
  [
    'all is known',
    { limit: 8, hung: 3, pressure: new Map(Object.entries({ cpu: 1.4, io: 0, memory: 99.5 })) },
    'limit 8, 3 hang, cpu pressure 1 %, io pressure 0 %, memory pressure 100 %',
  ],
] as const) {
  t.test(`18: what the node is at, where ${what}`, async (t) => {
    t.match(say('container', { at: 'queued', sinceMs: 0, behind: 1 }, of), ` behind 1 (${text}); `);
  });
}

t.test('what to do about a name that does not get free depends on what has it', async (t) => {
  t.equal(wedgeRemedy('podSandbox', 'x'), 'try "crictl rmp --force x", else restart the runtime');
  t.equal(wedgeRemedy('container', 'x'), 'try "crictl rm --force x", else restart the runtime');
  t.equal(wedgeRemedy('container', undefined), 'restart the runtime');
});

t.test('18: what a runtime says is told up to 300 characters', async (t) => {
  const long = new UpstreamStatusError({ code: 2, message: 'x'.repeat(10_000), trailers: [] });
  const text = say('container', waiting({ what: 'removal', id: 'i', sinceMs: 0, error: () => long }));
  t.match(text, /cannot be removed: x{300}; ask again$/);
});

/**
 * What containerd answers and shows, step by step, where something is late, repeated, stopped, removed or killed, by version where
 * versions differ. The same table is checked against real containerds and, for 1.6, against the simulated one, so that they agree.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { status } from '@grpc/grpc-js';
import type { Test } from 'tap';
import { images } from '../e2e/support/images.js';
import { type ContainerdVersion, isSince } from './containerd-version.js';
import type { CriClient, CriMethod, KubeletPod } from './cri-client.js';

/** What can be held before anything of it can be seen: making a pod sandbox or a container, a start, undoing a pod sandbox. */
export type Work = 'podSandbox' | 'container' | 'start' | 'undoing';

export interface HeldWork {
  /** Resolves when something has come this far. */
  reached(): Promise<unknown>;
  /** Harmless when it was released before. */
  release(): unknown;
}

/** A containerd without pods. */
export interface Containerd {
  readonly client: CriClient;
  pod(): KubeletPod;
  hold(work: Work): Promise<HeldWork>;
  kill(): Promise<void>;
  start(): Promise<void>;
}

interface Step {
  readonly label: string;
  act(play: Play): Promise<string>;
  /** As `Play.call` has it; empty: no call ends here. */
  readonly answer: string;
  /** As `Play.view` has it, at the latest after a while; default: what the step before showed. */
  readonly shows: readonly string[] | undefined;
}

interface Request {
  readonly method: CriMethod;
  of(play: Play): object;
}

/** How long something may take to show. */
const patienceMs = 20_000;

class Play {
  readonly containerd: Containerd;
  readonly pod: KubeletPod;
  readonly held = new Map<Work, HeldWork>();
  readonly calls = new Map<string, { leave(): void; answer: Promise<string> }>();
  readonly #ids: string[] = [];

  constructor(containerd: Containerd) {
    this.containerd = containerd;
    this.pod = containerd.pod();
  }

  /** @param alias `id1` for the id seen first, and so on, or `prefix of id1`; anything else is an id itself. */
  id(alias: string): string {
    const [, prefix, number] = /^(prefix of )?id(\d+)$/.exec(alias) ?? [];
    const id = this.#ids[Number(number) - 1] ?? alias;
    return prefix === undefined ? id : id.slice(0, 40);
  }

  /** `OK` and the id in the answer, or code and text; of errors that the client makes up the code alone. Ids are aliases. */
  async call({ method, of }: Request, signal = new AbortController().signal): Promise<string> {
    try {
      const answer = await this.containerd.client.call(method, of(this), { signal });
      return this.#alias(['OK', ...Object.values(answer).filter((value) => typeof value === 'string')].join(' '));
    } catch (error) {
      const { code, details } = error as { code: number; details: string };
      const isOwn = code === status.CANCELLED || code === status.UNAVAILABLE;
      return this.#alias(isOwn ? `${status[code]}` : `${status[code]}: ${details}`);
    }
  }

  /** A line for each pod sandbox and container: what is listed, and what its status says. */
  async view(): Promise<string[]> {
    const { client } = this.containerd;
    const { items } = await client.call('ListPodSandbox');
    const { containers } = await client.call('ListContainers');
    const podSandboxes = items.map(async ({ id, metadata, state }) => {
      const answer = await client.call('PodSandboxStatus', { pod_sandbox_id: id });
      const address = answer.status.network?.ip ? ', has an address' : '';
      const inside = answer.containers_statuses.length === 0 ? '' : ', with containers';
      return `${id} pod ${metadata.attempt}: ${both(state, answer.status.state)}${address}${inside}`;
    });
    const others = containers.map(async ({ id, pod_sandbox_id, metadata, state }) => {
      const { status: said } = await client.call('ContainerStatus', { container_id: id });
      const ran = said.started_at === '0' ? 'never ran' : 'ran';
      const end =
        said.finished_at === '0' ? '' : `, ${ran}, ${said.exit_code} ${said.reason} ${said.message}`.trimEnd();
      return `${id} ${metadata.name} ${metadata.attempt} in ${pod_sandbox_id}: ${both(state, said.state)}${end}`;
    });
    return (await Promise.all([...podSandboxes, ...others])).map((line) => this.#alias(line)).sort();
  }

  #alias(text: string): string {
    return text.replaceAll(this.pod.uid, 'UID').replaceAll(/[0-9a-f]{64}/g, (id) => {
      if (!this.#ids.includes(id)) this.#ids.push(id);
      return `id${this.#ids.indexOf(id) + 1}`;
    });
  }
}

function both(listed: string, said: string): string {
  return listed === said ? listed.replace(/^[A-Z]*_/, '') : `listed ${listed}, but ${said}`;
}

const runPodSandbox = (attempt = 0): Request => ({
  method: 'RunPodSandbox',
  of: ({ pod }) => pod.withAttempt(attempt).runPodSandboxRequest(),
});
/** The image is one that lets CreateContainer be held. */
const createContainer = (attempt = 0, podSandbox = 'id1', name = 'app'): Request => ({
  method: 'CreateContainer',
  of: (play) => play.pod.createContainerRequest(play.id(podSandbox), { image: images.volume, attempt, name }),
});
const toPod = (method: CriMethod, id: string): Request => ({
  method,
  of: (play) => ({ pod_sandbox_id: play.id(id) }),
});
const toContainer = (method: CriMethod, id: string): Request => ({
  method,
  of: (play) => ({ container_id: play.id(id), cmd: ['true'] }),
});

const step = (label: string, answer: string, shows: Step['shows'], act: Step['act']): Step => ({
  label,
  act,
  answer,
  shows,
});
const silent = (label: string, shows: Step['shows'], act: (play: Play) => unknown): Step =>
  step(label, '', shows, async (play) => {
    await act(play);
    return '';
  });

/** A call from beginning to end. */
const calls = (request: Request, answer: string, shows?: Step['shows']): Step =>
  step(request.method, answer, shows, (play) => play.call(request));

/** The same, again and again while the name is still reserved for something that is being undone. */
const callsUntilFree = (request: Request, answer: string, shows?: Step['shows']): Step =>
  step(`${request.method}, until the name is free`, answer, shows, async (play) => {
    const end = performance.now() + patienceMs;
    for (;;) {
      const got = await play.call(request);
      if (!got.includes('is reserved for') || performance.now() > end) return got;
      await delay(20);
    }
  });

const begin = (play: Play, key: string, request: Request): void => {
  const left = new AbortController();
  play.calls.set(key, { leave: () => left.abort(), answer: play.call(request, left.signal) });
};

/** A call that comes as far as where its work is held. */
const begins = (work: Work, request: Request): Step =>
  silent(`${request.method} is held`, undefined, async (play) => {
    const held = await play.containerd.hold(work);
    play.held.set(work, held);
    begin(play, work, request);
    await held.reached();
  });

/** The caller of what `begins` began cancels. */
const leaves = (work: Work, shows?: Step['shows']): Step =>
  step(`the caller of ${work} leaves`, 'CANCELLED', shows, async (play) => {
    play.calls.get(work)?.leave();
    return (await play.calls.get(work)?.answer) ?? '';
  });

const releases = (work: Work, shows?: Step['shows']): Step =>
  silent(`${work} is released`, shows, (play) => play.held.get(work)?.release());

const ends = (key: string, answer: string, shows?: Step['shows']): Step =>
  step(`${key} ends`, answer, shows, async (play) => (await play.calls.get(key)?.answer) ?? '');

/** It has come with 1.7. */
const doesNotKnowEvents: Step = step(
  'GetContainerEvents',
  'UNIMPLEMENTED: method GetContainerEvents not implemented',
  undefined,
  ({ containerd }) =>
    containerd.client.callRaw('/runtime.v1.RuntimeService/GetContainerEvents', Buffer.alloc(0)).then(
      () => 'OK',
      ({ code, details }) => `${status[code]}: ${details}`,
    ),
);

const ready = (id: string, attempt = 0): string => `${id} pod ${attempt}: READY, has an address`;
const notReady = (id: string, attempt = 0): string => `${id} pod ${attempt}: NOTREADY`;
const created = (id: string, what = 'app 0', podSandbox = 'id1'): string => `${id} ${what} in ${podSandbox}: CREATED`;
const running = (id: string, what = 'app 0'): string => `${id} ${what} in id1: RUNNING`;
const stopped = (id: string, what = 'app 0'): string => `${id} ${what} in id1: EXITED, ran, 137 Error`;
const unstarted = (id: string, why: string, what = 'app 0'): string =>
  `${id} ${what} in id1: EXITED, never ran, 128 StartError ${why}`;

/** Whether the containerd is of this version or a later one. */
type Since = (major: number, minor: number) => boolean;

/** Of an error without a code of its own; containerd 2 has given some of them one. */
const reservedCode = (since: Since): string => (since(2, 0) ? 'FAILED_PRECONDITION' : 'UNKNOWN');
const podReserved = (since: Since, id: string, attempt = 0): string =>
  `${reservedCode(since)}: failed to reserve sandbox name "web-0_default_UID_${attempt}": ` +
  `name "web-0_default_UID_${attempt}" is reserved for "${id}"`;
const containerReserved = (since: Since, id: string): string =>
  `${reservedCode(since)}: failed to reserve container name "app_web-0_default_UID_0"` +
  `${since(2, 0) ? '; check if another CreateContainer request is in progress' : ''}: ` +
  `name "app_web-0_default_UID_0" is reserved for "${id}"`;
const notStartable = (id: string, why: string): string =>
  `UNKNOWN: failed to set starting state for container "${id}": container is ${why}`;
const cancelled = (since: Since): string =>
  `failed to create containerd task: failed to create shim task: context canceled${since(2, 0) ? '' : ': unknown'}`;
const taskThere = (id: string): string => `failed to create containerd task: task ${id}: already exists`;
/** Of `id3`, whose start the kill had cut: 1.6 finds what is left of it in the way. */
const startAfterKill = (since: Since): { readonly answer: string; readonly shows: string } =>
  since(1, 7)
    ? { answer: 'OK', shows: running('id3', 'starting 0') }
    : { answer: `ALREADY_EXISTS: ${taskThere('id3')}`, shows: unstarted('id3', taskThere('id3'), 'starting 0') };
const noContainer = (id: string): string =>
  `NOT_FOUND: an error occurred when try to find container "${id}": not found`;
const emptyPrefix = (since: Since): string => `${since(1, 7) ? 'p' : 'P'}refix can't be empty`;

const scenesOf = (since: Since): Readonly<Record<string, readonly Step[]>> => ({
  'a pod sandbox is unlisted while it is made, rolled back when its caller leaves, its name released last': [
    begins('podSandbox', runPodSandbox()),
    calls(runPodSandbox(), podReserved(since, 'id1'), []),
    silent('undoing is to be held', [], async (play) =>
      play.held.set('undoing', await play.containerd.hold('undoing')),
    ),
    leaves('podSandbox', []),
    silent('undoing is held', [], (play) => play.held.get('undoing')?.reached()),
    calls(runPodSandbox(), podReserved(since, 'id1'), []),
    releases('podSandbox', []),
    releases('undoing', []),
    callsUntilFree(runPodSandbox(), 'OK id2', [ready('id2')]),
    calls(runPodSandbox(), podReserved(since, 'id2')),
    calls(toPod('PodSandboxStatus', 'id1'), 'NOT_FOUND: an error occurred when try to find sandbox: not found'),
    calls(runPodSandbox(1), 'OK id3', [ready('id2'), ready('id3', 1)]),
    calls(toPod('StopPodSandbox', 'prefix of id2'), 'OK', [notReady('id2'), ready('id3', 1)]),
  ],
  'a container whose caller leaves is finished and listed, and refused to the retry': [
    calls(runPodSandbox(), 'OK id1', [ready('id1')]),
    begins('container', createContainer()),
    calls(createContainer(), containerReserved(since, 'id2'), [ready('id1')]),
    calls(toContainer('StartContainer', 'id2'), noContainer('id2')),
    calls(toContainer('RemoveContainer', 'id2'), 'OK'),
    leaves('container'),
    calls(createContainer(), containerReserved(since, 'id2'), [ready('id1')]),
    releases('container', [ready('id1'), created('id2')]),
    calls(createContainer(), containerReserved(since, 'id2')),
    calls(createContainer(1), 'OK id3', [ready('id1'), created('id2'), created('id3', 'app 1')]),
    calls(toContainer('RemoveContainer', 'id2'), 'OK', [ready('id1'), created('id3', 'app 1')]),
    calls(createContainer(), 'OK id4', [ready('id1'), created('id3', 'app 1'), created('id4')]),
  ],
  'a start whose caller leaves spends its container': [
    calls(runPodSandbox(), 'OK id1', [ready('id1')]),
    calls(createContainer(), 'OK id2', [ready('id1'), created('id2')]),
    begins('start', toContainer('StartContainer', 'id2')),
    calls(toContainer('StartContainer', 'id2'), notStartable('id2', 'already in starting state')),
    calls(
      toContainer('RemoveContainer', 'id2'),
      `UNKNOWN: failed to set removing state for container "id2": container is in starting state, can't be removed`,
    ),
    calls(toContainer('StopContainer', 'id2'), 'OK'),
    leaves('start', [ready('id1'), unstarted('id2', cancelled(since))]),
    releases('start'),
    calls(toContainer('StartContainer', 'id2'), notStartable('id2', 'in CONTAINER_EXITED state')),
    calls(createContainer(), containerReserved(since, 'id2')),
    calls(createContainer(1), 'OK id3', [ready('id1'), unstarted('id2', cancelled(since)), created('id3', 'app 1')]),
    calls(toContainer('RemoveContainer', 'id2'), 'OK', [ready('id1'), created('id3', 'app 1')]),
    calls(toContainer('StartContainer', 'id3'), 'OK', [ready('id1'), running('id3', 'app 1')]),
    calls(toContainer('StartContainer', 'id3'), notStartable('id3', 'in CONTAINER_RUNNING state')),
    calls(toContainer('StopContainer', 'id3'), 'OK', [ready('id1'), stopped('id3', 'app 1')]),
    calls(toContainer('StopContainer', 'id3'), 'OK'),
    calls(toContainer('RemoveContainer', 'id3'), 'OK', [ready('id1')]),
    calls(toContainer('RemoveContainer', 'id3'), 'OK'),
  ],
  'a stopped pod sandbox keeps its containers and names, a removed one nothing': [
    calls(runPodSandbox(), 'OK id1', [ready('id1')]),
    calls(createContainer(), 'OK id2', [ready('id1'), created('id2')]),
    calls(createContainer(1), 'OK id3', [ready('id1'), created('id2'), created('id3', 'app 1')]),
    calls(toContainer('StartContainer', 'id2'), 'OK', [ready('id1'), running('id2'), created('id3', 'app 1')]),
    calls(toContainer('StopContainer', 'id3'), 'OK'),
    calls(toPod('StopPodSandbox', 'id1'), 'OK', [notReady('id1'), stopped('id2'), created('id3', 'app 1')]),
    calls(toPod('StopPodSandbox', 'id1'), 'OK'),
    calls(toContainer('StartContainer', 'id3'), 'UNKNOWN: sandbox container "id1" is not running', [
      notReady('id1'),
      stopped('id2'),
      unstarted('id3', 'sandbox container "id1" is not running', 'app 1'),
    ]),
    calls(runPodSandbox(), podReserved(since, 'id1')),
    calls(runPodSandbox(1), 'OK id4', [
      notReady('id1'),
      stopped('id2'),
      unstarted('id3', 'sandbox container "id1" is not running', 'app 1'),
      ready('id4', 1),
    ]),
    calls(createContainer(0, 'id4'), containerReserved(since, 'id2')),
    calls(toPod('RemovePodSandbox', 'id1'), 'OK', [ready('id4', 1)]),
    calls(toPod('RemovePodSandbox', 'id1'), 'OK'),
    calls(createContainer(0, 'id4'), 'OK id5', [ready('id4', 1), created('id5', 'app 0', 'id4')]),
    calls(toPod('RemovePodSandbox', 'prefix of id4'), 'OK', []),
    calls(runPodSandbox(), 'OK id6', [ready('id6')]),
  ],
  'no container of a stopped pod sandbox starts, if one can be made at all': [
    calls(runPodSandbox(), 'OK id1', [ready('id1')]),
    calls(toPod('StopPodSandbox', 'id1'), 'OK', [notReady('id1')]),
    ...(since(2, 0)
      ? [
          calls(createContainer(), 'OK id2', [notReady('id1'), created('id2')]),
          calls(toContainer('StartContainer', 'id2'), 'UNKNOWN: sandbox container "id1" is not running', [
            notReady('id1'),
            unstarted('id2', 'sandbox container "id1" is not running'),
          ]),
        ]
      : [
          calls(
            createContainer(),
            'NOT_FOUND: failed to get sandbox container task: no running task found: task id1 not found: not found',
          ),
        ]),
  ],
  'what runs can be removed': [
    calls(runPodSandbox(), 'OK id1', [ready('id1')]),
    calls(createContainer(), 'OK id2', [ready('id1'), created('id2')]),
    calls(toContainer('StartContainer', 'id2'), 'OK', [ready('id1'), running('id2')]),
    calls(toContainer('RemoveContainer', 'id2'), 'OK', [ready('id1')]),
    calls(createContainer(), 'OK id3', [ready('id1'), created('id3')]),
    calls(toContainer('StartContainer', 'id3'), 'OK', [ready('id1'), running('id3')]),
    calls(toPod('RemovePodSandbox', 'id1'), 'OK', []),
  ],
  'a pod sandbox removed in the middle of a CreateContainer leaves the container behind': [
    calls(runPodSandbox(), 'OK id1', [ready('id1')]),
    begins('container', createContainer()),
    calls(toPod('StopPodSandbox', 'id1'), 'OK', [notReady('id1')]),
    calls(toPod('RemovePodSandbox', 'id1'), 'OK', []),
    releases('container', [created('id2')]),
    ends('container', 'OK id2'),
    calls(toContainer('StartContainer', 'id2'), 'NOT_FOUND: sandbox "id1" not found: not found', [
      unstarted('id2', 'sandbox "id1" not found: not found'),
    ]),
    calls(createContainer(), 'NOT_FOUND: failed to find sandbox id "id1": not found'),
    calls(toContainer('RemoveContainer', 'id2'), 'OK', []),
  ],
  'a pod sandbox stopped in the middle of a StartContainer waits for the start, and what it started goes on': [
    calls(runPodSandbox(), 'OK id1', [ready('id1')]),
    calls(createContainer(), 'OK id2', [ready('id1'), created('id2')]),
    begins('start', toContainer('StartContainer', 'id2')),
    silent('StopPodSandbox begins', undefined, (play) => begin(play, 'stop', toPod('StopPodSandbox', 'id1'))),
    releases('start', [notReady('id1'), running('id2')]),
    ends('start', 'OK'),
    ends('stop', 'OK'),
    calls(toPod('StopPodSandbox', 'id1'), 'OK', [notReady('id1'), stopped('id2')]),
  ],
  'an unknown id is NOT_FOUND to all but the two removals, an empty one a fault': [
    calls(
      toPod('StopPodSandbox', 'feed'),
      since(1, 7) ? 'OK' : 'NOT_FOUND: an error occurred when try to find sandbox "feed": not found',
      [],
    ),
    calls(toPod('PodSandboxStatus', 'feed'), 'NOT_FOUND: an error occurred when try to find sandbox: not found'),
    calls(toPod('RemovePodSandbox', 'feed'), 'OK'),
    calls(toContainer('StopContainer', 'feed'), since(1, 7) ? 'OK' : noContainer('feed')),
    calls(toContainer('ContainerStatus', 'feed'), noContainer('feed')),
    calls(toContainer('StartContainer', 'feed'), noContainer('feed')),
    calls(toContainer('RemoveContainer', 'feed'), 'OK'),
    calls(toContainer('ContainerStats', 'feed'), 'NOT_FOUND: failed to find container: not found'),
    calls(
      toContainer('ExecSync', 'feed'),
      'NOT_FOUND: failed to exec in container: failed to find container "feed" in store: not found',
    ),
    calls(createContainer(0, 'feed'), 'NOT_FOUND: failed to find sandbox id "feed": not found'),
    calls({ method: 'RunPodSandbox', of: () => ({}) }, 'UNKNOWN: sandbox config must include metadata'),
    ...(since(1, 7) ? [] : [doesNotKnowEvents]),
    calls(runPodSandbox(), 'OK id1', [ready('id1')]),
    calls(toPod('CreateContainer', 'id1'), 'UNKNOWN: container config must include metadata'),
    calls(toPod('PodSandboxStatus', ''), `UNKNOWN: an error occurred when try to find sandbox: ${emptyPrefix(since)}`),
    calls(
      toPod('RemovePodSandbox', ''),
      `UNKNOWN: an error occurred when try to find sandbox "": ${emptyPrefix(since)}`,
    ),
    calls(
      toContainer('RemoveContainer', ''),
      `UNKNOWN: an error occurred when try to find container "": ${emptyPrefix(since)}`,
    ),
  ],
  'killed in the middle of everything and started again, it keeps what was finished': [
    calls(runPodSandbox(), 'OK id1', [ready('id1')]),
    calls(createContainer(), 'OK id2', [ready('id1'), created('id2')]),
    calls(createContainer(0, 'id1', 'starting'), 'OK id3', [
      ready('id1'),
      created('id2'),
      created('id3', 'starting 0'),
    ]),
    calls(toContainer('StartContainer', 'id2'), 'OK', [ready('id1'), running('id2'), created('id3', 'starting 0')]),
    begins('container', createContainer(0, 'id1', 'creating')),
    begins('start', toContainer('StartContainer', 'id3')),
    begins('podSandbox', runPodSandbox(1)),
    silent(
      'it is killed and started',
      [ready('id1'), running('id2'), created('id3', 'starting 0'), notReady('id4', 1)],
      async (play) => {
        await play.containerd.kill();
        for (const held of play.held.values()) await held.release();
        await play.containerd.start();
      },
    ),
    ends('container', 'UNAVAILABLE'),
    ends('start', 'UNAVAILABLE'),
    ends('podSandbox', 'UNAVAILABLE'),
    // The name of what was not finished is free at once in containerd 2.
    ...(since(2, 0)
      ? [
          calls(runPodSandbox(1), 'OK id5', [
            ready('id1'),
            running('id2'),
            created('id3', 'starting 0'),
            notReady('id4', 1),
            ready('id5', 1),
          ]),
          calls(toPod('RemovePodSandbox', 'id4'), 'OK', [
            ready('id1'),
            running('id2'),
            created('id3', 'starting 0'),
            ready('id5', 1),
          ]),
        ]
      : [
          calls(runPodSandbox(1), podReserved(since, 'id4', 1)),
          calls(toPod('RemovePodSandbox', 'id4'), 'OK', [ready('id1'), running('id2'), created('id3', 'starting 0')]),
          calls(runPodSandbox(1), 'OK id5', [
            ready('id1'),
            running('id2'),
            created('id3', 'starting 0'),
            ready('id5', 1),
          ]),
        ]),
    calls(toContainer('StartContainer', 'id3'), startAfterKill(since).answer, [
      ready('id1'),
      running('id2'),
      startAfterKill(since).shows,
      ready('id5', 1),
    ]),
    calls(createContainer(0, 'id1', 'creating'), 'OK id6', [
      ready('id1'),
      running('id2'),
      startAfterKill(since).shows,
      ready('id5', 1),
      created('id6', 'creating 0'),
    ]),
  ],
});

/**
 * Checks every scene.
 *
 * @param start Gives a containerd of its own, of this version, to each.
 */
export function playScenes(
  t: Test,
  version: ContainerdVersion,
  start: (t: Test) => Promise<Containerd>,
  options: { skip?: string | false },
): void {
  const scenes = scenesOf((major, minor) => isSince(version, major, minor));
  for (const [title, steps] of Object.entries(scenes)) {
    t.test(title, options, async (t) => {
      const play = new Play(await start(t));
      let shown: readonly string[] = [];
      for (const { label, act, answer, shows = shown } of steps) {
        if (!t.equal(await act(play), answer, label)) return;
        if (!t.strictSame(await viewOnce(play, shows), shows, `${label}: what is shown`)) return;
        shown = shows;
      }
    });
  }
}

/** @returns The view as soon as it is the one expected, or the last one. */
async function viewOnce(play: Play, expected: readonly string[]): Promise<string[]> {
  const end = performance.now() + patienceMs;
  for (;;) {
    const view = await play.view();
    if (isDeepStrictEqual(view, expected) || performance.now() > end) return view;
    await delay(20);
  }
}

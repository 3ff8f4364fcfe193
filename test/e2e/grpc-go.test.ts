/**
 * The two peers that every node has, a kubelet and a runtime on grpc-go, get through Holdfast what they get without it. Most of
 * these tests play the same twice, directly and through the built program, and compare what the kubelet saw.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { status } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { sha256 } from '../support/any-client.js';
import { decodeMessage, encodeMessage, KubeletPod } from '../support/cri-client.js';
import {
  buildGrpcGo,
  GoKubelet,
  GoRuntime,
  missingGrpcGo,
  type Outcome,
  type RuntimeOptions,
} from './support/grpc-go.js';
import { startHoldfast } from './support/holdfast.js';
import { skipFor } from './support/programs.js';
import { until } from './support/until.js';

const KiB = 1024;

// For a slow machine, and for what is not answered before its deadline.
t.setTimeout(300_000);

const smallEvent = eventOf(500);
const largeEvent = eventOf(64 * KiB);

function eventOf(bytes: number): Buffer {
  return encodeMessage('ContainerEventResponse', {
    container_id: 'c0ffee',
    container_event_type: 'CONTAINER_STARTED_EVENT',
    pod_sandbox_status: { id: 'beef', annotations: { text: 'x'.repeat(bytes) } },
  });
}

/** What a list says of a pod's container; some 1 KB. */
function containerOf({ uid, name, namespace }: KubeletPod) {
  return {
    id: `container-of-${uid}`,
    metadata: { name: 'app', attempt: 0 },
    labels: {
      'io.kubernetes.pod.name': name,
      'io.kubernetes.pod.namespace': namespace,
      'io.kubernetes.pod.uid': uid,
    },
    annotations: { text: 'x'.repeat(KiB) },
  };
}

function containerList(containers: readonly object[]): Buffer {
  return encodeMessage('ListContainersResponse', { containers });
}

/** A runtime, and where a kubelet finds it. */
interface Scene {
  readonly runtime: GoRuntime;
  /** The runtime's socket, or Holdfast's in front of it. */
  readonly socket: string;
  /** Connected. */
  readonly kubelet: GoKubelet;
  /** One more, connected. */
  another(): Promise<GoKubelet>;
  /** A runtime in the place of one that has ended. */
  successor(): Promise<GoRuntime>;
}

t.test('a kubelet and a runtime on grpc-go', { skip: skipFor(missingGrpcGo()) }, async (t) => {
  const directory = mkdtempSync(path.join(tmpdir(), 'hf-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const program = await buildGrpcGo(directory);
  const newSocket = () => path.join(directory, `${crypto.randomUUID().slice(0, 8)}.sock`);

  async function stage(t: Test, options: RuntimeOptions, throughHoldfast: boolean): Promise<Scene> {
    const runtime = await GoRuntime.start(t, program, newSocket(), options);
    const { socket } = throughHoldfast
      ? await startHoldfast(t, { runtime: runtime.socket, listen: newSocket() })
      : runtime;
    const another = () => connect(t, socket);
    const successor = () => GoRuntime.start(t, program, runtime.socket, options);
    return { runtime, socket, kubelet: await another(), another, successor };
  }

  async function connect(t: Test, socket: string): Promise<GoKubelet> {
    const kubelet = new GoKubelet(t, program, socket);
    await kubelet.dial();
    await kubelet.ready();
    return kubelet;
  }

  /** Plays the same directly and through Holdfast, and compares. @returns What came of it through Holdfast. */
  async function compare<T>(t: Test, options: RuntimeOptions, play: (scene: Scene) => Promise<T>): Promise<T> {
    const [straight, through] = await Promise.all(
      [false, true].map(async (throughHoldfast) => play(await stage(t, options, throughHoldfast))),
    );
    if (straight === undefined || through === undefined) throw new Error('not played');
    t.strictSame(through, straight, 'as directly');
    return through;
  }

  const newPod = () => new KubeletPod({ directory });
  const containers = (count: number) => Array.from({ length: count }, () => containerOf(newPod()));

  function runPodSandbox(kubelet: GoKubelet, pod: KubeletPod, timeoutMs?: number): Promise<Outcome> {
    return kubelet.call('RunPodSandbox', encodeMessage('RunPodSandboxRequest', pod.runPodSandboxRequest()), timeoutMs);
  }

  function createContainer(kubelet: GoKubelet, pod: KubeletPod, podSandboxId: string, timeoutMs?: number) {
    const request = pod.createContainerRequest(podSandboxId, { image: 'busybox' });
    return kubelet.call('CreateContainer', encodeMessage('CreateContainerRequest', request), timeoutMs);
  }

  function startContainer(kubelet: GoKubelet, containerId: string, timeoutMs?: number): Promise<Outcome> {
    const request = encodeMessage('StartContainerRequest', { container_id: containerId });
    return kubelet.call('StartContainer', request, timeoutMs);
  }

  /** @returns What became of each call; it ends with the first that fails. */
  async function bringUp(kubelet: GoKubelet): Promise<Outcome[]> {
    const pod = newPod();
    const sandbox = await runPodSandbox(kubelet, pod);
    if (sandbox.code !== status.OK) return [sandbox];
    const podSandboxId = madeId(sandbox);
    const asked = encodeMessage('PodSandboxStatusRequest', { pod_sandbox_id: podSandboxId });
    const ready = await kubelet.call('PodSandboxStatus', asked);
    const container = await createContainer(kubelet, pod, podSandboxId);
    if (container.code !== status.OK) return [sandbox, ready, container];
    return [sandbox, ready, container, await startContainer(kubelet, madeId(container))];
  }

  /** Containers that are still being made when their callers have left; without Holdfast that ends them. */
  async function leaveCreations({ runtime, kubelet }: Scene, pods: readonly KubeletPod[]): Promise<void> {
    const sandboxes = await Promise.all(pods.map((pod) => runPodSandbox(kubelet, pod)));
    await runtime.set('CreateContainer', { held: true });
    const begun = async () => (await runtime.seen()).begun.CreateContainer ?? 0;
    const before = await begun();
    const left = pods.map((pod, n) => createContainer(kubelet, pod, madeId(sandboxes[n]), 1_000));
    await until('they are begun', async () => (await begun()) === before + pods.length);
    for (const { code } of await Promise.all(left)) {
      if (code !== status.DEADLINE_EXCEEDED) throw new Error(`a creation ended with ${code}`);
    }
  }

  /** Taken ones and one that passes. */
  async function callsBehind(kubelet: GoKubelet): Promise<Outcome[]> {
    return Promise.all([
      runPodSandbox(kubelet, newPod(), 5_000),
      kubelet.call('Version', Buffer.alloc(0), 5_000),
      startContainer(kubelet, 'any', 5_000),
    ]);
  }

  /** A kubelet says nothing and another is frozen, for so long that a runtime cuts off who answers no PING. */
  async function keptAlive(t: Test) {
    const play = async (throughHoldfast: boolean) => {
      const { runtime, kubelet, another } = await stage(t, { keepaliveMs: 1_000 }, throughHoldfast);
      const frozen = await another();
      await Promise.all([kubelet.call('Version'), frozen.call('Version')]);
      const { sent } = await runtime.seen();
      frozen.pause();
      await delay(3_500);
      frozen.resume();
      const after = (await runtime.seen()).sent.pings - sent.pings;
      t.ok(after >= 2, `the runtime has sent ${after} PINGs`);
      const call = async (one: GoKubelet) => {
        const { code } = await until('it is answered', async () => {
          const outcome = await one.call('Version');
          return outcome.code === status.OK ? outcome : undefined;
        });
        return { code, ...(await wire(one)) };
      };
      return { silent: await call(kubelet), frozen: await call(frozen) };
    };
    const [straight, through] = await Promise.all([play(false), play(true)]);
    return { straight, through };
  }

  for (const pods of [10, 40, 100]) {
    await t.test(`a storm of ${pods} pods fails no call and no connection`, async (t) => {
      const through = await compare(t, {}, async ({ runtime, kubelet }) => {
        await runtime.set('RunPodSandbox', { delayMs: [100, 400] });
        await runtime.set('CreateContainer', { delayMs: [100, 400] });
        await runtime.set('StartContainer', { delayMs: [20, 100] });
        const lists: Outcome[] = [];
        const over = new AbortController();
        const listing = (async () => {
          while (!over.signal.aborted) {
            lists.push(await kubelet.call('ListPodSandbox'), await kubelet.call('ListContainers'));
            await delay(100);
          }
        })();
        const calls = (await Promise.all(Array.from({ length: pods }, () => bringUp(kubelet)))).flat();
        over.abort();
        await listing;
        return { calls: calls.length, failed: failed([...calls, ...lists]), ...(await wire(kubelet)) };
      });
      t.strictSame(through, { calls: pods * 4, failed: [], connections: 1, goAways: [] });
    });
  }

  await t.test('answers of taken calls in a row leave the connection alone', async (t) => {
    const through = await compare(t, {}, async ({ kubelet }) => {
      const outcomes: Outcome[] = [];
      for (let n = 0; n < 20; n++) outcomes.push(await runPodSandbox(kubelet, newPod()));
      outcomes.push(await kubelet.call('Version'));
      return { outcomes, ...(await wire(kubelet)) };
    });
    t.match(through, { connections: 1, goAways: [] });
    t.strictSame(failed(through.outcomes), []);
  });

  await t.test('no PING of the kubelet reaches the runtime', async (t) => {
    const scene = await stage(t, {}, true);
    const { runtime, kubelet } = scene;
    for (const method of ['ListPodSandbox', 'ListContainers']) {
      await runtime.set(method, { answers: [containerList(containers(100))] });
    }
    const events = kubelet.stream('GetContainerEvents', { messages: 1_000 });
    await runtime.reached('GetContainerEvents', 1);
    for (let n = 0; n < 5; n++) {
      await Promise.all([bringUp(kubelet), kubelet.call('ListPodSandbox'), runtime.emit(smallEvent, 200)]);
    }
    await leaveCreations(scene, [newPod()]);
    for (let n = 0; n < 5; n++) await kubelet.call('ListContainers');
    await events.ended;
    const { received } = await runtime.seen();
    const { sent } = await kubelet.seen();
    t.ok(sent.pings > 5, `the kubelet has sent ${sent.pings}`);
    t.equal(received.pings, 0);
  });

  await t.test('lists while something is hidden fail no call and no connection', async (t) => {
    const shown = containers(400);
    const hiddenPod = newPod();
    const all = [...shown, containerOf(hiddenPod)];
    const digests: (string | undefined)[][] = [];
    const through = await compare(t, {}, async (scene) => {
      const { runtime, kubelet, socket } = scene;
      await leaveCreations(scene, [hiddenPod]);
      await runtime.set('ListContainers', { answers: [containerList(all)] });
      await runtime.set('StreamContainers', { answers: all.map((one) => containerList([one])) });
      const lists: Outcome[] = [];
      for (let n = 0; n < 20; n++) lists.push(await kubelet.call('ListContainers'));
      for (let n = 0; n < 5; n++) lists.push(...(await together(4, () => kubelet.call('ListContainers'))));
      const streams: Outcome[] = [];
      for (let n = 0; n < 10; n++) streams.push(await kubelet.stream('StreamContainers').ended);
      const found = [...new Set([...lists, ...streams].map(({ answer }) => answer))];
      if (socket !== runtime.socket) digests.push(found);
      const answered = lists.length + streams.length;
      return { answered, failed: failed([...lists, ...streams]), ...(await wire(kubelet)) };
    });
    t.strictSame(through, { answered: 50, failed: [], connections: 1, goAways: [] });
    const list = containerList(shown);
    const streamed = Buffer.concat(shown.map((one) => containerList([one])));
    t.strictSame(
      digests,
      [[`${list.length} bytes, sha256 ${sha256(list)}`, sha256(streamed)]],
      'all but the hidden one',
    );
  });

  await t.test('an open stream of events fails no call and no connection', async (t) => {
    const through = await compare(t, {}, async ({ runtime, kubelet }) => {
      const [bursts, burst] = [50, 100];
      const events = kubelet.stream('GetContainerEvents', { messages: bursts * burst });
      await runtime.reached('GetContainerEvents', 1);
      const calls: Outcome[] = [];
      for (let n = 0; n < bursts; n++) {
        await runtime.emit(smallEvent, burst);
        calls.push(await runPodSandbox(kubelet, newPod()));
      }
      calls.push(await kubelet.call('Version'));
      return { events: await events.ended, calls, ...(await wire(kubelet)) };
    });
    t.match(through, { events: { code: status.OK, messages: 5_000 }, connections: 1, goAways: [] });
    t.strictSame(failed(through.calls), []);
  });

  for (const kilobytes of [1, 12, 64, 90, 200]) {
    await t.test(`a status text of ${kilobytes} KB comes as it is, and the calls behind it are answered`, async (t) => {
      const through = await compare(t, {}, async ({ runtime, kubelet }) => {
        const text = longText(kilobytes * 1000);
        await runtime.set('RunPodSandbox', { code: status.UNKNOWN, text });
        const refused = await runPodSandbox(kubelet, newPod(), 10_000);
        await runtime.set('RunPodSandbox', {});
        return { refused, calls: await callsBehind(kubelet), ...(await wire(kubelet)) };
      });
      t.match(through, { refused: { code: status.UNKNOWN }, connections: 1 });
      t.strictSame(failed(through.calls), []);
    });
  }

  for (const code of [status.OK, status.UNKNOWN]) {
    await t.test(
      `trailers of 100 KB come with status ${status[code]}, and the calls behind are answered`,
      async (t) => {
        const through = await compare(t, {}, async ({ runtime, kubelet }) => {
          await runtime.set('RunPodSandbox', { code, text: code === status.OK ? '' : 'no', trailerBytes: 100_000 });
          const ended = await runPodSandbox(kubelet, newPod(), 10_000);
          await runtime.set('RunPodSandbox', {});
          return { ended, calls: await callsBehind(kubelet), ...(await wire(kubelet)) };
        });
        t.match(through, { ended: { code, trailers: { 'x-long-bin': [/^100000 bytes/] } }, connections: 1 });
        t.strictSame(failed(through.calls), []);
      },
    );
  }

  for (const passing of [[], ['ExecSync']]) {
    const others = passing.length === 0 ? 'nothing else is under way' : `${passing.join()} is under way`;
    await t.test(`a runtime that stops gracefully answers who waits, while ${others}`, async (t) => {
      const through = await compare(t, {}, async ({ runtime, kubelet, successor }) => {
        const pod = newPod();
        const podSandboxId = madeId(await runPodSandbox(kubelet, pod));
        const held = ['RunPodSandbox', 'CreateContainer', 'StartContainer', ...passing];
        await Promise.all(held.map((method) => runtime.set(method, { held: true })));
        const passed = passing.map((method) => kubelet.call(method));
        // So that the last stream the runtime knows of is below those that wait.
        await Promise.all(passing.map((method) => runtime.reached(method, 1)));
        const waiting = Promise.all([
          ...passed,
          runPodSandbox(kubelet, newPod()),
          createContainer(kubelet, pod, podSandboxId),
          startContainer(kubelet, 'any'),
        ]);
        await Promise.all(held.map((method) => runtime.reached(method, 1)));
        const stopped = runtime.gracefulStop();
        await until('it has told its clients', async () => (await runtime.seen()).sent.goAways.length > 0);
        // Where nobody else has a call on it, their connections are closed now.
        await delay(300);
        await runtime.release(...held);
        const answers = (await waiting).map(({ code, text }) => `${code} ${text}`);
        await stopped;
        await runtime.end();
        await successor();
        await until('the next one answers', async () => {
          const { code } = await runPodSandbox(kubelet, newPod(), 5_000);
          return code === status.OK;
        });
        return answers;
      });
      t.strictSame(new Set(through), new Set([`${status.OK} `]));
    });
  }

  const answeredAtOnce = ['ListContainers', 'ListPodSandbox', 'Version', 'ListContainers'];

  await t.test('lists do not wait for creations whose callers left, where a runtime allows 4 streams', async (t) => {
    const through = await compare(t, { maxStreams: 4 }, async (scene) => {
      const { kubelet } = scene;
      await leaveCreations(scene, [newPod(), newPod(), newPod(), newPod()]);
      const outcomes = await Promise.all(answeredAtOnce.map((method) => kubelet.call(method, Buffer.alloc(0), 5_000)));
      return { outcomes, ...(await wire(kubelet)) };
    });
    t.strictSame(failed(through.outcomes), []);
    t.match(through, { connections: 1, goAways: [] });
  });

  await t.test('lists do not wait for subscriptions, where a runtime allows 4 streams', async (t) => {
    const through = await compare(t, { maxStreams: 4 }, async (scene) => {
      const { runtime, kubelet, another } = scene;
      const subscribers = await together(4, another);
      const events = subscribers.map((subscriber) => subscriber.stream('GetContainerEvents', { messages: 10 }).ended);
      await runtime.reached('GetContainerEvents', 4);
      await leaveCreations(scene, [newPod()]);
      const outcomes = await Promise.all(answeredAtOnce.map((method) => kubelet.call(method, Buffer.alloc(0), 5_000)));
      await runtime.emit(smallEvent, 10);
      return { outcomes, events: await Promise.all(events), ...(await wire(kubelet)) };
    });
    t.strictSame(failed([...through.outcomes, ...through.events]), []);
    t.match(through, { connections: 1, goAways: [] });
  });

  await t.test('a runtime that is frozen and goes on has lost nothing', async (t) => {
    const through = await compare(t, {}, async ({ runtime, kubelet }) => {
      const held = ['RunPodSandbox', 'ExecSync'];
      await Promise.all(held.map((method) => runtime.set(method, { held: true })));
      const events = kubelet.stream('GetContainerEvents', { messages: 100 });
      await runtime.reached('GetContainerEvents', 1);
      const before = [runPodSandbox(kubelet, newPod()), kubelet.call('ExecSync')];
      await Promise.all(held.map((method) => runtime.reached(method, 1)));
      runtime.pause();
      const during = [bringUp(kubelet), ...['ListContainers', 'Version'].map((method) => kubelet.call(method))];
      await delay(3_000);
      runtime.resume();
      await runtime.release(...held);
      const calls = (await Promise.all([...before, ...during])).flat();
      await runtime.emit(smallEvent, 100);
      return { codes: calls.map(({ code }) => code), events: await events.ended, ...(await wire(kubelet)) };
    });
    t.strictSame(through.codes, Array(8).fill(status.OK));
    t.match(through, { events: { code: status.OK, messages: 100 }, connections: 1, goAways: [] });
  });

  await t.test('the PINGs of the runtime are answered, whatever the kubelet does', async (t) => {
    const { straight, through } = await keptAlive(t);
    t.match(through.silent, { code: status.OK, connections: 1, goAways: [] });
    t.strictSame(through.silent, straight.silent);
    t.equal(straight.frozen.connections, 2, 'a frozen kubelet is cut off without Holdfast');
    t.match(through.frozen, { code: status.OK, connections: 1, goAways: [] });
  });

  await t.test('a kubelet has its connection before there is a runtime, and its calls wait for it', async (t) => {
    const runtimeSocket = newSocket();
    const { socket } = await startHoldfast(t, { runtime: runtimeSocket, listen: newSocket() });
    const [kubelet, blocking] = [new GoKubelet(t, program, socket), new GoKubelet(t, program, socket)];
    // A connection without SETTINGS would be given up twice until the runtime comes.
    await kubelet.dial({ connectMs: 1_000 });
    let ready = 0;
    for (const dialled of [kubelet.ready(), blocking.dial({ block: true })]) void dialled.then(() => ready++);
    const calls = [runPodSandbox(kubelet, newPod()), kubelet.call('Version'), kubelet.call('ListContainers')];
    let answered = 0;
    for (const call of calls) void call.then(() => answered++);
    await delay(2_500);
    t.strictSame({ ready, answered }, { ready: 2, answered: 0 }, 'both are connected, and their calls wait');
    await GoRuntime.start(t, program, runtimeSocket);
    t.strictSame(
      (await Promise.all(calls)).map(({ code }) => code),
      [status.OK, status.OK, status.OK],
    );
    t.strictSame(await wire(kubelet), { connections: 1, goAways: [] });
  });

  await t.test('a subscriber that does not read is ended, and its subscription at the runtime with it', async (t) => {
    const { runtime, kubelet, another } = await stage(t, {}, true);
    const reader = await another();
    const [bursts, burst] = [20, 60];
    const unread = kubelet.stream('GetContainerEvents', { unread: true });
    const read = reader.stream('GetContainerEvents', { messages: bursts * burst });
    await runtime.reached('GetContainerEvents', 2);
    // In all 75 MiB: grpc-go's window for a stream grows to 16 MiB, and Holdfast keeps as much.
    for (let n = 1; n <= bursts; n++) {
      await runtime.emit(largeEvent, burst);
      await until('they are read', async () => (await read.received()) >= n * burst);
    }
    t.match(await read.ended, { code: status.OK, messages: bursts * burst }, 'another subscriber gets all');
    await runtime.reached('GetContainerEvents', 0);
    await unread.read();
    const { code, text, messages } = await unread.ended;
    t.ok(messages < bursts * burst, `it gets ${messages}`);
    t.equal(code, status.RESOURCE_EXHAUSTED, text);
    t.equal((await kubelet.call('Version')).code, status.OK, 'its other calls are answered');
  });
});

/** Of a pod sandbox or a container. */
function madeId(outcome: Outcome | undefined): string {
  if (outcome?.code !== status.OK) throw new Error(`nothing was made: ${outcome?.text}`);
  const made = decodeMessage('RunPodSandboxResponse', Buffer.from(outcome.answer, 'base64'));
  return (made as { pod_sandbox_id: string }).pod_sandbox_id;
}

/** What a report of a test shows of the calls that failed. */
function failed(outcomes: readonly Outcome[]) {
  return outcomes.filter(({ code }) => code !== status.OK).map(({ code, text }) => `${code} ${text}`);
}

async function wire(kubelet: GoKubelet) {
  const { connections, received } = await kubelet.seen();
  return { connections, goAways: received.goAways };
}

function together<T>(count: number, call: () => Promise<T>): Promise<T[]> {
  return Promise.all(Array.from({ length: count }, call));
}

/** With what is escaped in `grpc-message`, and what looks as if it were. */
function longText(bytes: number): string {
  const phrase = 'disk #7 is 93 % full, größe 4µ ✓, "%23" and %zz\n';
  const repeated = phrase.repeat(Math.floor(bytes / Buffer.byteLength(phrase)));
  return repeated + 'x'.repeat(bytes - Buffer.byteLength(repeated));
}

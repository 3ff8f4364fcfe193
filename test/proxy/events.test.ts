/** What a subscriber to container events is told, when, and what it may make Holdfast keep. */
import { pino } from 'pino';
import t from 'tap';
import { Metrics } from '../../src/admin/metrics.js';
import type { Creation } from '../../src/cache/creation.js';
import type { CreationStore } from '../../src/cache/creation-store.js';
import type { ContainerItem } from '../../src/cri/container-items.js';
import { ContainerEventType, ContainerState } from '../../src/cri/enums.js';
import type { Origin } from '../../src/proxy/cri-runtime.js';
import { Events } from '../../src/proxy/events.js';
import { Faults } from '../../src/proxy/faults.js';
import { read, write } from '../../src/proxy/own-calls.js';
import { Relay } from '../../src/proxy/relay.js';
import type { Metadata, Status, TakenCall } from '../../src/proxy/taken-call.js';
import {
  type Upstream,
  type UpstreamAnswer,
  UpstreamStatusError,
  type UpstreamStream,
} from '../../src/proxy/upstream.js';
import { counted } from '../support/counted.js';
import { ManualClock, settle } from '../support/manual-clock.js';

type KnownCreation = Creation<Origin, UpstreamAnswer>;

const path = '/runtime.v1.RuntimeService/GetContainerEvents';
const ok: Status = { code: 0, message: 'over', trailers: [['at', 'midnight']] };
const mostBytes = 16 * 1024 * 1024;
const overheadBytes = 1024;

/** A subscription at a runtime that says what the test has it say. */
class Saying implements UpstreamStream {
  readonly initialMetadata: Promise<Metadata | undefined>;
  readonly status = Promise.resolve(ok);
  readonly #said: Buffer[] = [];
  #end: (() => void) | undefined;
  #wake = (): void => {};

  constructor(metadata: Metadata | undefined) {
    this.initialMetadata = Promise.resolve(metadata);
  }

  async say(...events: Buffer[]): Promise<void> {
    this.#said.push(...events);
    this.#wake();
    await settle();
  }

  async end(error?: Error): Promise<void> {
    this.#end = () => {
      if (error !== undefined) throw error;
    };
    await this.say();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Buffer> {
    for (;;) {
      yield* this.#said.splice(0);
      if (this.#end !== undefined) return this.#end();
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}

/** A call whose client reads nothing until `read`. */
class UnreadCall implements TakenCall {
  readonly path = path;
  readonly metadata: Metadata = [['who', 'kubelet']];
  readonly deadlineMs = undefined;
  readonly request = Buffer.from('all');
  readonly signal = new AbortController().signal;
  kept = 0;
  ended: Status | undefined;
  readonly initialMetadata: Metadata[] = [];
  readonly got: Buffer[] = [];
  readonly #unread: (() => void)[] = [];

  keep(bytes: number): void {
    this.kept += bytes;
  }

  sendInitialMetadata(metadata: Metadata): void {
    this.initialMetadata.push(metadata);
  }

  send(event: Buffer): Promise<void> {
    this.got.push(event);
    return new Promise((resolve) => this.#unread.push(resolve));
  }

  end(status: Status): Promise<boolean> {
    this.ended ??= status;
    return Promise.resolve(false);
  }

  async read(): Promise<void> {
    for (const resolve of this.#unread.splice(0)) resolve();
    await settle();
  }
}

/** A runtime with events, and what of its containers is hidden. Nothing is, until the test says so. */
function setUp(metadata?: Metadata) {
  const said: Saying[] = [];
  const asked: unknown[] = [];
  const upstream: Upstream = {
    serverStream(called, request, options) {
      asked.push([called, request, options?.metadata]);
      const stream = new Saying(metadata);
      said.push(stream);
      return stream;
    },
    unary: () => Promise.reject(new Error('not asked for')),
    close() {},
  };
  const metrics = new Metrics();
  const clock = new ManualClock();
  const log = pino({ level: 'silent' });
  const hidden = { hiding: false, hiddenOwner: (_: ContainerItem): KnownCreation | undefined => undefined };
  const store = hidden as unknown as CreationStore<Origin, UpstreamAnswer>;
  const events = new Events(store, upstream, new Relay(upstream, clock), metrics, new Faults(metrics, log, clock));
  const hide = (owner: (item: ContainerItem) => KnownCreation | undefined) => {
    Object.assign(hidden, { hiding: true, hiddenOwner: owner });
  };
  const reveal = (creation: KnownCreation) => {
    hidden.hiding = false;
    events.revealed(creation);
  };
  const subscribe = async () => {
    const call = new UnreadCall();
    const over = events.subscribe(call);
    await settle();
    const stream = said.at(-1);
    if (stream === undefined) throw new Error('the runtime was not asked');
    return { call, over, runtime: stream };
  };
  return { asked, events, hide, metrics, reveal, subscribe };
}

/** What holds a hidden container; which one is all that matters. */
const creationOf = () => ({}) as KnownCreation;

interface ContainerStatus {
  readonly id: string;
  readonly state?: number;
}

/** @param statuses Of the containers of the pod sandbox; default: of the one that the event is of. */
function event(id: string, type: number, statuses: readonly ContainerStatus[] = [{ id }]): Buffer {
  return write('ContainerEventResponse', {
    container_id: id,
    container_event_type: type,
    pod_sandbox_status: { id: 's' },
    containers_statuses: statuses.map((status) => ({ metadata: { name: 'c', attempt: 3 }, ...status })),
  });
}

const { created, started, stopped, deleted } = ContainerEventType;

t.test('a subscriber is told what the runtime says, in its words, until the runtime ends it', async (t) => {
  const { asked, events, subscribe } = setUp([['from', 'runtime']]);
  const { call, over, runtime } = await subscribe();
  t.strictSame(asked, [[path, Buffer.from('all'), [['who', 'kubelet']]]]);
  t.strictSame(call.initialMetadata, [[['from', 'runtime']]], 'before the first event');
  t.equal(events.subscriptions, 1);
  const said = [event('c1', created), event('c1', started)];
  await runtime.say(...said);
  t.strictSame(call.got, said);
  t.equal(call.ended, undefined);
  await runtime.end();
  await over;
  t.equal(call.ended, ok);
  t.equal(events.subscriptions, 0);
});

t.test('a runtime that says no more than a status sends no metadata', async (t) => {
  const { subscribe } = setUp();
  const { call, over, runtime } = await subscribe();
  await runtime.end();
  await over;
  t.strictSame(call.initialMetadata, []);
  t.equal(call.ended, ok);
});

t.test('a subscription that breaks ends with why, and keeps nothing', async (t) => {
  const { events, hide, subscribe } = setUp();
  const creation = creationOf();
  hide(() => creation);
  const { call, over, runtime } = await subscribe();
  await runtime.say(event('c1', created), event('c1', created));
  const status = { code: 14, message: 'the runtime is gone', trailers: [] };
  await runtime.end(new UpstreamStatusError(status));
  await over;
  t.equal(call.ended, status);
  t.equal(call.kept, 0);
  t.equal(events.subscriptions, 0);
});

t.test('events of a hidden container come when it is delivered, in their order, and only its', async (t) => {
  const { hide, reveal, subscribe } = setUp();
  const [one, other] = [creationOf(), creationOf()];
  hide(({ id }) =>
    new Map([
      ['c1', one],
      ['c2', other],
    ]).get(id),
  );
  const { call, runtime } = await subscribe();
  const said = [event('c1', created), event('c1', deleted), event('c2', created), event('c3', created)];
  await runtime.say(...said);
  t.strictSame(call.got, [said[3]], 'what is not hidden does not wait');
  reveal(one);
  t.strictSame(call.got, [said[3], said[0], said[1]]);
  reveal(one);
  t.equal(call.got.length, 3, 'once');
  reveal(other);
  t.strictSame(call.got[3], said[2]);
});

t.test('whoever subscribes is told of a container that is delivered', async (t) => {
  const { hide, reveal, subscribe, events } = setUp();
  const creation = creationOf();
  hide(() => creation);
  const subscribers = [await subscribe(), await subscribe()];
  t.equal(events.subscriptions, 2);
  for (const { runtime } of subscribers) await runtime.say(event('c1', created));
  reveal(creation);
  t.strictSame(
    subscribers.map(({ call }) => call.got.length),
    [1, 1],
  );
});

t.test('events of a hidden container that is removed come never', async (t) => {
  const { hide, reveal, subscribe, events } = setUp();
  const creation = creationOf();
  hide(() => creation);
  const { call, runtime } = await subscribe();
  await runtime.say(event('c1', created));
  t.not(call.kept, 0);
  events.vanished(creation);
  t.equal(call.kept, 0);
  reveal(creation);
  t.strictSame(call.got, []);
});

t.test('a subscriber that has left is told nothing any more', async (t) => {
  const { hide, reveal, subscribe } = setUp();
  const creation = creationOf();
  hide(() => creation);
  const { call, over, runtime } = await subscribe();
  await runtime.say(event('c1', created));
  await runtime.end();
  await over;
  reveal(creation);
  t.strictSame(call.got, []);
});

for (const [what, type, state, isTold] of [
  ['was made', created, ContainerState.created, false],
  ['was removed', deleted, ContainerState.exited, false],
  ['was made and runs', created, ContainerState.running, true],
  ['was started', started, ContainerState.created, true],
  ['was stopped', stopped, ContainerState.exited, true],
] as const) {
  t.test(`a hidden container that ${what} ${isTold ? 'has run' : 'has not run'}`, async (t) => {
    const { hide, subscribe } = setUp();
    hide((item) => (item.state === ContainerState.running ? undefined : creationOf()));
    const { call, runtime } = await subscribe();
    await runtime.say(event('c1', type, [{ id: 'c1', state }]));
    t.equal(call.got.length, isTold ? 1 : 0);
  });
}

t.test('a container is recognised by what its status in the event says', async (t) => {
  const { hide, subscribe } = setUp();
  hide(({ podSandboxId, name, attempt }) =>
    `${podSandboxId} ${name} ${attempt}` === 's c 3' ? creationOf() : undefined,
  );
  const { call, runtime } = await subscribe();
  await runtime.say(event('c1', created));
  t.strictSame(call.got, []);
});

t.test('a container without a status is recognised by no more than its id and its pod sandbox', async (t) => {
  const { hide, subscribe } = setUp();
  const known = { id: 'c1', podSandboxId: 's', name: '', attempt: 0, labels: new Map(), state: undefined };
  hide((item) => (t.strictSame(item, known) ? creationOf() : undefined));
  const { call, runtime } = await subscribe();
  await runtime.say(event('c1', created, []));
  t.strictSame(call.got, []);
});

t.test('an event of another container shows no hidden one, and the metric counts it', async (t) => {
  const { hide, metrics, reveal, subscribe } = setUp();
  const creation = creationOf();
  hide(({ id }) => (id === 'c1' ? creation : undefined));
  const { call, runtime } = await subscribe();
  const statuses = [{ id: 'c1' }, { id: 'c2' }];
  await runtime.say(event('c2', created, statuses));
  const [cut] = call.got.map((bytes) =>
    read<{ containers_statuses: { id: string }[] }>('ContainerEventResponse', bytes),
  );
  t.strictSame(
    cut?.containers_statuses.map(({ id }) => id),
    ['c2'],
  );
  t.match(await metrics.registry.metrics(), /holdfast_hidden_items_total 1\n/);
  reveal(creation);
  const whole = event('c2', created, statuses);
  await runtime.say(whole);
  t.equal(call.got[1], whole, 'while nothing is hidden it is not looked at');
  t.match(await metrics.registry.metrics(), /holdfast_hidden_items_total 1\n/);
});

t.test('an event that was kept back shows no other container that is hidden still', async (t) => {
  const { hide, events, subscribe } = setUp();
  const [one, other] = [creationOf(), creationOf()];
  hide(({ id }) => (id === 'c1' ? one : other));
  const { call, runtime } = await subscribe();
  await runtime.say(event('c1', created, [{ id: 'c1' }, { id: 'c2' }]));
  hide(({ id }) => (id === 'c1' ? undefined : other));
  events.revealed(one);
  t.strictSame(call.got, [event('c1', created)]);
});

t.test('an event that waits counts with what it takes beside its bytes, whoever it waits for', async (t) => {
  const said = Array.from({ length: 100 }, () => event('c1', created));
  const length = said[0]?.length ?? 0;
  for (const isHidden of [false, true]) {
    const { hide, subscribe } = setUp();
    if (isHidden) hide(creationOf);
    const { call, over, runtime } = await subscribe();
    await runtime.say(...said);
    t.equal(call.kept, 100 * (isHidden ? length + overheadBytes : overheadBytes), 'bytes that are sent count as sent');
    if (!isHidden) await call.read();
    await runtime.end();
    await over;
    t.equal(call.kept, 0, isHidden ? 'suppressed, and the subscription is over' : 'read');
  }
});

t.test('an event that was kept back and is sent counts as any other', async (t) => {
  const { hide, reveal, subscribe } = setUp();
  const creation = creationOf();
  hide(() => creation);
  const { call, runtime } = await subscribe();
  await runtime.say(event('c1', created), event('c1', created));
  reveal(creation);
  t.equal(call.kept, 2 * overheadBytes);
  await call.read();
  t.equal(call.kept, 0);
});

for (const isHidden of [false, true]) {
  t.test(`a subscriber that does not ${isHidden ? 'see' : 'read'} 16 MiB of events is ended`, async (t) => {
    const { hide, reveal, subscribe } = setUp();
    const creation = creationOf();
    if (isHidden) hide(() => creation);
    const { call, runtime } = await subscribe();
    await runtime.say(Buffer.alloc(mostBytes - 2 * overheadBytes));
    await runtime.say(Buffer.alloc(0));
    t.equal(call.ended, undefined, 'not at 16 MiB');
    const { kept } = call;
    await runtime.say(Buffer.alloc(1));
    const message = `${mostBytes + overheadBytes + 1} bytes of container events were not read`;
    t.strictSame(call.ended, { code: 8, message, trailers: [] });
    t.equal(call.kept, kept, 'what is too much is not kept');
    reveal(creation);
    t.notOk(call.got.some(({ length }) => length === 1));
  });
}

t.test('a subscriber that reads no events is ended, however small they are', async (t) => {
  const { subscribe } = setUp();
  const { call, runtime } = await subscribe();
  await runtime.say(...Array.from({ length: 17_000 }, () => Buffer.alloc(0)));
  t.equal(call.ended?.code, 8);
});

for (const [what, said] of [
  ['large events', [Buffer.alloc(10 * 1024 * 1024)]],
  ['small events', Array.from({ length: 3_000 }, () => Buffer.alloc(0))],
] as const) {
  t.test(`${what} that are read, delivered or forgotten make room for others`, async (t) => {
    const { hide, events, reveal, subscribe } = setUp();
    const { call, runtime } = await subscribe();
    const creation = creationOf();
    for (let n = 0; n < 2; n++) {
      await runtime.say(...said);
      await call.read();
      hide(() => creation);
      await runtime.say(...said);
      events.vanished(creation);
      await runtime.say(...said);
      reveal(creation);
      await call.read();
    }
    t.equal(call.ended, undefined);
    t.equal(call.got.length, 4 * said.length);
  });
}

t.test('an event that cannot be looked at goes on as it came', async (t) => {
  const { hide, metrics, subscribe } = setUp();
  hide(() => {
    throw new TypeError('broken');
  });
  const { call, over, runtime } = await subscribe();
  const said = [event('c1', created), event('c2', started)];
  await runtime.say(...said);
  t.strictSame(call.got, said);
  t.match(await counted(metrics.faults), [{ labels: { method: 'GetContainerEvents' }, value: 4 }]);
  await runtime.end();
  await over;
});

t.test('a subscription that meets a fault ends, for the client to subscribe again', async (t) => {
  const { metrics, subscribe } = setUp();
  const { call, over, runtime } = await subscribe();
  await runtime.end(new TypeError('broken'));
  await over;
  t.match(call.ended, { code: 14, message: 'holdfast: a fault inside Holdfast, ask again: broken' });
  t.match(await counted(metrics.faults), [{ labels: { method: 'GetContainerEvents' }, value: 1 }]);
});

t.test('a subscriber that cannot be shown what was hidden, or spared it, keeps nothing from the others', async (t) => {
  const { events, hide, metrics, reveal, subscribe } = setUp();
  const creation = creationOf();
  hide(() => creation);
  const [first, second] = [await subscribe(), await subscribe()];
  const said = event('c1', created);
  for (const { runtime } of [first, second]) await runtime.say(said);
  first.call.keep = () => {
    throw new TypeError('broken');
  };
  reveal(creation);
  t.strictSame(second.call.got, [said]);
  hide(() => creation);
  await second.runtime.say(said);
  events.vanished(creation);
  t.match(await counted(metrics.faults), [{ labels: { method: 'GetContainerEvents' } }]);
  reveal(creation);
  t.strictSame(second.call.got, [said], 'it is no more');
});

/** What a subscriber to container events may make Holdfast keep. */
import t from 'tap';
import { Metrics } from '../../src/admin/metrics.js';
import type { CreationStore } from '../../src/cache/creation-store.js';
import { systemClock } from '../../src/clock.js';
import type { Origin } from '../../src/proxy/cri-runtime.js';
import { Events } from '../../src/proxy/events.js';
import { Relay } from '../../src/proxy/relay.js';
import type { Status, TakenCall } from '../../src/proxy/taken-call.js';
import type { Upstream, UpstreamAnswer, UpstreamStream } from '../../src/proxy/upstream.js';

const ok: Status = { code: 0, message: '', trailers: [] };

/** A runtime that says these events, once `open` resolves ends the subscription. */
function saying(events: readonly Buffer[], open: Promise<void>): Upstream {
  const stream: UpstreamStream = {
    initialMetadata: Promise.resolve([]),
    status: Promise.resolve(ok),
    async *[Symbol.asyncIterator]() {
      yield* events;
      await open;
    },
  };
  return { serverStream: () => stream, unary: () => Promise.reject(new Error('not asked for')), close() {} };
}

/** A call whose client reads nothing until `read`. */
class UnreadCall implements TakenCall {
  readonly path = '/runtime.v1.RuntimeService/GetContainerEvents';
  readonly metadata = [];
  readonly deadlineMs = undefined;
  readonly request = Buffer.alloc(0);
  readonly signal = new AbortController().signal;
  kept = 0;
  ended: Status | undefined;
  readonly #unread: (() => void)[] = [];

  keep(bytes: number): void {
    this.kept += bytes;
  }

  sendInitialMetadata(): void {}

  send(): Promise<void> {
    return new Promise((resolve) => this.#unread.push(resolve));
  }

  end(status: Status): Promise<boolean> {
    this.ended ??= status;
    return Promise.resolve(false);
  }

  read(): void {
    for (const resolve of this.#unread.splice(0)) resolve();
  }
}

/** @param isHidden Whether what the events are of is hidden. */
function subscribe(events: readonly Buffer[], isHidden: boolean) {
  const call = new UnreadCall();
  let finish = (): void => {};
  const upstream = saying(events, new Promise((resolve) => (finish = resolve)));
  const store = { hiding: isHidden, hiddenOwner: () => store };
  const known = store as unknown as CreationStore<Origin, UpstreamAnswer>;
  const subscription = new Events(known, upstream, new Relay(upstream, systemClock), new Metrics()).subscribe(call);
  return { call, finish: () => finish(), subscription };
}

const turns = async (): Promise<void> => {
  for (let turn = 0; turn < 10; turn++) await new Promise(setImmediate);
};

t.test('an event that waits counts with what it takes beside its bytes, whoever it waits for', async (t) => {
  const events = Array.from({ length: 100 }, () => Buffer.alloc(0));
  for (const isHidden of [false, true]) {
    const { call, finish, subscription } = subscribe(events, isHidden);
    await turns();
    t.equal(call.kept, 100 * 1024);
    if (!isHidden) call.read();
    finish();
    await subscription;
    t.equal(call.kept, 0, isHidden ? 'suppressed, and the subscription is over' : 'read');
  }
});

t.test('a subscriber that reads no events is ended, however small they are', async (t) => {
  const { call, finish, subscription } = subscribe(
    Array.from({ length: 17_000 }, () => Buffer.alloc(0)),
    false,
  );
  await turns();
  t.equal(call.ended?.code, 8);
  finish();
  await subscription;
});

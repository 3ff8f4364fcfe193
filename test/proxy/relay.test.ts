/** A taken call that goes to the runtime after all: what each side gets to see. */
import t from 'tap';
import { Relay } from '../../src/proxy/relay.js';
import type { Metadata, Status, TakenCall } from '../../src/proxy/taken-call.js';
import {
  type Upstream,
  type UpstreamAnswer,
  type UpstreamCallOptions,
  UpstreamStatusError,
  type UpstreamStream,
} from '../../src/proxy/upstream.js';
import { ManualClock, settle } from '../support/manual-clock.js';

const ok: Status = { code: 0, message: '', trailers: [['cost', '3']] };
const refused: Status = { code: 7, message: 'no', trailers: [['why', 'not']] };
const headers: Metadata = [['x-runtime', 'yes']];

/** A downstream call that notes what it is sent, in order. */
class NotedCall implements TakenCall {
  readonly path = '/runtime.v1.RuntimeService/Anything';
  readonly metadata: Metadata = [['x-client', 'kubelet']];
  readonly request = Buffer.from('request');
  readonly signal = new AbortController().signal;
  readonly deadlineMs: number | undefined;
  readonly sent: unknown[] = [];
  kept = 0;
  /** Of messages that flow control has not let go. */
  readonly unread: (() => void)[] = [];
  readsSlowly = false;

  constructor(deadlineMs?: number) {
    this.deadlineMs = deadlineMs;
  }

  keep(bytes: number): void {
    this.kept += bytes;
  }

  sendInitialMetadata(metadata: Metadata): void {
    this.sent.push({ metadata });
  }

  send(message: Buffer): Promise<void> {
    this.sent.push(message.toString());
    return this.readsSlowly ? new Promise((resolve) => this.unread.push(resolve)) : Promise.resolve();
  }

  end(status: Status): Promise<boolean> {
    this.sent.push(status);
    return Promise.resolve(true);
  }
}

interface Asked {
  readonly path: string;
  readonly request: string;
  readonly options: UpstreamCallOptions | undefined;
}

/** A runtime that gives each call the same answer. */
function stage(answer: { unary?: () => Promise<UpstreamAnswer>; stream?: () => UpstreamStream }) {
  const asked: Asked[] = [];
  const note = (path: string, request: Buffer, options?: UpstreamCallOptions) =>
    asked.push({ path, request: request.toString(), options });
  const upstream: Upstream = {
    unary(path, request, options) {
      note(path, request, options);
      return answer.unary?.() ?? Promise.reject(new Error('not asked for'));
    },
    serverStream(path, request, options) {
      note(path, request, options);
      if (answer.stream === undefined) throw new Error('not asked for');
      return answer.stream();
    },
    close() {},
  };
  const clock = new ManualClock();
  return { relay: new Relay(upstream, clock), asked, clock };
}

const answering = (message: string) => ({
  unary: async () => ({ message: Buffer.from(message), initialMetadata: headers, status: ok }),
});

function streaming(messages: readonly string[], initialMetadata: Metadata | undefined, status: Status = ok) {
  const taken: string[] = [];
  const stream = (): UpstreamStream => ({
    initialMetadata: Promise.resolve(initialMetadata),
    status: Promise.resolve(status),
    async *[Symbol.asyncIterator]() {
      for (const message of messages) {
        taken.push(message);
        yield Buffer.from(message);
      }
    },
  });
  return { stream, taken };
}

t.test('the runtime gets the call’s own path, bytes, metadata, cancel and the time it has left', async (t) => {
  const { relay, asked, clock } = stage(answering('answer'));
  const call = new NotedCall(clock.now() + 5_000);
  clock.skip(2_000);
  await relay.unary(call);
  t.match(asked, [{ path: call.path, request: 'request', options: { metadata: call.metadata, timeoutMs: 3_000 } }]);
  t.equal(asked[0]?.options?.signal, call.signal);
  asked[0]?.options?.keep?.(7);
  t.equal(call.kept, 7, 'what is kept for the call counts as its own');
});

t.test('a call without a deadline has none upstream, and one that has passed has no time left', (t) => {
  const { relay, clock } = stage({});
  t.equal(relay.options(new NotedCall()).timeoutMs, undefined);
  t.equal(relay.options(new NotedCall(clock.now() - 1)).timeoutMs, 0);
  t.end();
});

t.test('an answer goes downstream with the runtime’s metadata and status', async (t) => {
  const { relay } = stage(answering('answer'));
  const call = new NotedCall();
  await relay.unary(call);
  t.same(call.sent, [{ metadata: headers }, 'answer', ok]);
});

t.test('an edit changes the message of an answer, or ends the call with a status instead', async (t) => {
  const { relay } = stage(answering('answer'));
  const call = new NotedCall();
  await relay.unary(call, async (message) => Buffer.from(`${message} cut`));
  t.same(call.sent, [{ metadata: headers }, 'answer cut', ok]);
  const hidden = new NotedCall();
  await relay.unary(hidden, () => refused);
  t.same(hidden.sent, [refused]);
});

t.test('an error goes downstream as the runtime said it, with headers where it sent them', async (t) => {
  for (const [metadata, sent] of [
    [headers, [{ metadata: headers }, refused]],
    [undefined, [refused]],
  ] as const) {
    const { relay } = stage({ unary: () => Promise.reject(new UpstreamStatusError(refused, metadata)) });
    const call = new NotedCall();
    await relay.unary(call);
    t.same(call.sent, sent);
  }
});

t.test('an edit that fails ends the call', async (t) => {
  const fail = () => Promise.reject(new Error('no such field'));
  const { relay } = stage({ ...answering('answer'), ...streaming(['one'], headers) });
  const [unary, stream] = [new NotedCall(), new NotedCall()];
  await relay.unary(unary, fail);
  await relay.serverStream(stream, fail);
  t.match(unary.sent, [{ code: 13, message: 'no such field' }]);
  t.match(stream.sent.at(-1), { code: 13, message: 'no such field' });
});

t.test(
  'a stream goes downstream message by message, edited, and a status instead of a message leaves it out',
  async (t) => {
    const { relay, asked, clock } = stage(streaming(['one', 'two', 'three'], headers));
    const call = new NotedCall(clock.now() + 1_000);
    await relay.serverStream(call, (message) => (message.equals(Buffer.from('two')) ? refused : message));
    t.same(call.sent, [{ metadata: headers }, 'one', 'three', ok]);
    t.match(asked, [{ path: call.path, request: 'request', options: { metadata: call.metadata, timeoutMs: 1_000 } }]);
  },
);

t.test('a stream that ends without headers ends with its status alone', async (t) => {
  const { relay } = stage(streaming([], undefined, refused));
  const call = new NotedCall();
  await relay.serverStream(call, (message) => message);
  t.same(call.sent, [refused]);
});

t.test('a stream is read no faster than the downstream reads', async (t) => {
  const { stream, taken } = streaming(['one', 'two'], headers);
  const { relay } = stage({ stream });
  const call = new NotedCall();
  call.readsSlowly = true;
  const relayed = relay.serverStream(call, (message) => message);
  await settle();
  t.same(taken, ['one']);
  call.unread.shift()?.();
  await settle();
  t.same(taken, ['one', 'two']);
  call.unread.shift()?.();
  await relayed;
  t.same(call.sent.at(-1), ok);
});

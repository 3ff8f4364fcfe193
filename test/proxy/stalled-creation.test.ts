import { getEventListeners } from 'node:events';
import t from 'tap';
import { write } from '../../src/proxy/own-calls.js';
import { StalledCreations } from '../../src/proxy/stalled-creation.js';
import {
  type Upstream,
  type UpstreamAnswer,
  type UpstreamCallOptions,
  UpstreamStatusError,
  type UpstreamStream,
} from '../../src/proxy/upstream.js';
import { ManualClock } from '../support/manual-clock.js';

const path = '/runtime.v1.RuntimeService/RunPodSandbox';
const versionPath = '/runtime.v1.RuntimeService/Version';
const bytes = Buffer.from('a request');
const longestMs = 900_000;

function answerOf(message: Buffer): UpstreamAnswer {
  return { message, initialMetadata: [], status: { code: 0, message: '', trailers: [] } };
}

const made = answerOf(Buffer.from('s1'));
const reserved = new UpstreamStatusError({
  code: 4,
  message: 'context deadline exceeded: name is reserved',
  trailers: [],
});

/** Keeps the first request of a creation waiting, and answers others as it is told. */
class StallingRuntime implements Upstream {
  /** Requests of the creation. */
  readonly asked: UpstreamCallOptions[] = [];
  readonly paths: string[] = [];
  readonly versionsAsked: UpstreamCallOptions[] = [];
  name = 'cri-o';
  /** How a further request, or one for its name, ends. */
  further: () => Promise<UpstreamAnswer> = () => Promise.reject(reserved);
  version = () => Promise.resolve(answerOf(write('VersionResponse', { runtime_name: this.name })));
  /** Ends the first. */
  end: (answer: UpstreamAnswer) => void = () => {};
  fail: (error: Error) => void = () => {};

  unary(called: string, request: Buffer, options: UpstreamCallOptions = {}): Promise<UpstreamAnswer> {
    this.paths.push(called);
    if (called === versionPath) {
      this.versionsAsked.push(options);
      t.equal(request.length, 0);
      return this.version();
    }
    t.equal(request, bytes);
    this.asked.push(options);
    return this.asked.length > 1 ? this.further() : this.#first(options);
  }

  serverStream(): UpstreamStream {
    throw new Error('no stream is asked for');
  }

  close(): void {}

  /** Forgets what it was asked for: the next request is the first again. */
  forget(): void {
    this.asked.length = 0;
    this.paths.length = 0;
  }

  #first(options: UpstreamCallOptions): Promise<UpstreamAnswer> {
    return new Promise((resolve, reject) => {
      this.end = resolve;
      this.fail = reject;
      options.signal?.addEventListener('abort', () => reject(new Error('cancelled')));
    });
  }
}

function setUp() {
  const runtime = new StallingRuntime();
  const clock = new ManualClock();
  const stalled = new StalledCreations(runtime, clock, longestMs);
  const ask = (signal?: AbortSignal) =>
    stalled.unary(path, bytes, {
      metadata: [['a', 'b']],
      timeoutMs: 900_000,
      lane: 'work',
      ...(signal && { signal }),
    });
  /** Begins a creation that takes 12 s. @returns Whether it is asked for again meanwhile. */
  const isAskedFurther = async () => {
    runtime.forget();
    const asked = ask();
    await clock.advance(12_000);
    const { length } = runtime.asked;
    runtime.end(made);
    await asked;
    return length > 1;
  };
  /** A creation that is aborted at the runtime after a second. */
  const abort = async () => {
    runtime.forget();
    const leave = new AbortController();
    const asked = ask(leave.signal);
    const ended = t.rejects(asked, { message: 'cancelled' });
    await clock.advance(1_000);
    leave.abort();
    await ended;
  };
  return { runtime, clock, ask, isAskedFurther, abort };
}

t.test('what CRI-O keeps for the next request is fetched, and the request that waits is ended', async (t) => {
  const { runtime, clock, ask } = setUp();
  const asked = ask(new AbortController().signal);
  await clock.advance(12_000);
  t.equal(runtime.asked.length, 3, 'two were in vain');
  runtime.further = async () => made;
  await clock.advance(5_000);
  t.equal(await asked, made);
  t.match(runtime.asked[1], { metadata: [['a', 'b']], timeoutMs: 1_000, lane: 'work' });
  t.equal(runtime.asked[0]?.signal?.aborted, true);
  await clock.advance(60_000);
  t.equal(runtime.asked.length, 4);
  t.equal(clock.pending, 0);
});

t.test('it is fetched for a creation that nobody can end, too', async (t) => {
  const { runtime, clock, ask } = setUp();
  runtime.further = async () => made;
  const asked = ask();
  await clock.advance(5_000);
  t.equal(await asked, made);
  t.equal(runtime.asked[0]?.signal?.aborted, true);
});

t.test('it is asked for after 5 s, and then every 5 s', async (t) => {
  const { runtime, clock, ask } = setUp();
  void ask();
  await clock.advance(4_999);
  t.strictSame(runtime.paths, [path]);
  await clock.advance(1);
  t.strictSame(runtime.paths, [path, versionPath, path]);
  await clock.advance(4_999);
  t.equal(runtime.paths.length, 3);
  await clock.advance(1);
  t.equal(runtime.asked.length, 3);
  t.equal(runtime.asked[0]?.timeoutMs, 900_000, 'the one that waits has the time it was given');
  t.equal(runtime.versionsAsked[0]?.timeoutMs, 1_000);
  runtime.end(made);
});

t.test('the one that makes it is left alone, and is the answer', async (t) => {
  const { runtime, clock, ask } = setUp();
  const asked = ask();
  await clock.advance(11_000);
  t.notOk(runtime.asked[0]?.signal?.aborted);
  runtime.end(made);
  t.equal(await asked, made);
  await clock.advance(60_000);
  t.equal(runtime.asked.length, 3);
  t.equal(clock.pending, 0);
});

t.test('why it cannot be made is said by the request that waits', async (t) => {
  const { runtime, clock, ask } = setUp();
  const asked = ask();
  await clock.advance(11_000);
  runtime.fail(new Error('disk full'));
  await t.rejects(asked, { message: 'disk full' });
  t.equal(clock.pending, 0);
});

t.test('no other runtime gets a second request', async (t) => {
  const { runtime, clock, ask } = setUp();
  runtime.name = 'containerd';
  const asked = ask();
  await clock.advance(60_000);
  t.strictSame(runtime.paths, [path, versionPath]);
  runtime.end(made);
  await asked;
});

t.test('a runtime that does not say which it is is asked again', async (t) => {
  const { runtime, clock, ask } = setUp();
  runtime.version = () => Promise.reject(new Error('deadline exceeded'));
  runtime.further = async () => made;
  const asked = ask();
  await clock.advance(12_000);
  t.strictSame(runtime.paths, [path, versionPath, versionPath]);
  runtime.version = async () => answerOf(write('VersionResponse', { runtime_name: 'cri-o' }));
  await clock.advance(5_000);
  t.equal(await asked, made);
});

t.test('a Holdfast that has been there for longer than a creation takes asks once', async (t) => {
  const { clock, isAskedFurther } = setUp();
  await clock.advance(longestMs);
  t.equal(await isAskedFurther(), true, 'just as long');
  t.equal(await isAskedFurther(), false);
});

t.test('a request that is sent once goes as it is', async (t) => {
  const { runtime, clock, ask } = setUp();
  await clock.advance(longestMs + 1);
  const { signal } = new AbortController();
  const asked = ask(signal);
  t.strictSame(runtime.asked, [{ metadata: [['a', 'b']], timeoutMs: 900_000, lane: 'work', signal }]);
  runtime.end(made);
  t.equal(await asked, made);
  const failing = setUp();
  await failing.clock.advance(longestMs + 1);
  const failed = failing.ask();
  failing.runtime.fail(reserved);
  await t.rejects(failed, reserved);
});

t.test('for as long as a creation may take after one was aborted, what it began may be in the way', async (t) => {
  const { clock, abort, isAskedFurther } = setUp();
  await clock.advance(3 * longestMs);
  t.equal(await isAskedFurther(), false);
  await abort();
  t.equal(await isAskedFurther(), true);
  await clock.advance(longestMs - 12_000);
  t.equal(await isAskedFurther(), true, 'just as long');
  t.equal(await isAskedFurther(), false);
});

t.test('it counts from the last one that was aborted', async (t) => {
  const { clock, abort, isAskedFurther } = setUp();
  await abort();
  await clock.advance(longestMs - 1_000);
  await abort();
  await clock.advance(longestMs);
  t.equal(await isAskedFurther(), true);
  t.equal(await isAskedFurther(), false);
});

t.test('one that is aborted while Holdfast fetches it may be in the way, too', async (t) => {
  const { runtime, clock, ask, isAskedFurther } = setUp();
  const leave = new AbortController();
  const asked = ask(leave.signal);
  const ended = t.rejects(asked, { message: 'cancelled' });
  await clock.advance(600_000);
  t.ok(runtime.asked.length > 100);
  leave.abort();
  await ended;
  await clock.advance(longestMs);
  t.equal(await isAskedFurther(), true);
});

t.test('what ends after its creation was answered or refused has left nothing', async (t) => {
  const { runtime, clock, ask, isAskedFurther } = setUp();
  await clock.advance(longestMs + 1);
  for (const end of [() => runtime.end(made), () => runtime.fail(reserved)]) {
    runtime.forget();
    const leave = new AbortController();
    const asked = ask(leave.signal);
    end();
    await asked.catch(() => {});
    leave.abort();
    t.equal(await isAskedFurther(), false);
  }
});

t.test('whoever ends the creation ends the asking', async (t) => {
  const { runtime, clock, abort } = setUp();
  await abort();
  await clock.advance(60_000);
  t.strictSame(runtime.paths, [path]);
  t.equal(clock.pending, 0);
});

for (const what of ['further', 'version'] as const) {
  t.test(`nothing is asked after the answer, whatever comes of a request under way (${what})`, async (t) => {
    const { runtime, clock, ask } = setUp();
    let fail = (_: Error) => {};
    runtime[what] = () =>
      new Promise((_, reject) => {
        fail = reject;
      });
    const asked = ask();
    await clock.advance(5_000);
    const { length } = runtime.paths;
    const under = what === 'further' ? runtime.asked[1] : runtime.versionsAsked[0];
    t.equal(under?.signal?.aborted, false);
    runtime.end(made);
    t.equal(await asked, made);
    t.equal(under?.signal?.aborted, true);
    fail(new Error('cancelled'));
    await clock.advance(60_000);
    t.equal(runtime.paths.length, length);
    t.equal(clock.pending, 0);
  });
}

t.test('a long wait leaves nothing behind', async (t) => {
  const { runtime, clock, ask } = setUp();
  const leave = new AbortController();
  const asked = ask(leave.signal);
  await clock.advance(1_000);
  const waiting = runtime.asked[0]?.signal;
  const listening = () => (waiting === undefined ? 0 : getEventListeners(waiting, 'abort').length);
  const before = listening();
  await clock.advance(300_000);
  t.equal(listening(), before);
  runtime.end(made);
  await asked;
  t.equal(getEventListeners(leave.signal, 'abort').length, 0);
});

import t from 'tap';
import { StalledCreations } from '../../src/proxy/stalled-creation.js';
import {
  type Upstream,
  type UpstreamAnswer,
  type UpstreamCallOptions,
  UpstreamStatusError,
  type UpstreamStream,
} from '../../src/proxy/upstream.js';
import { encodeMessage } from '../support/cri-client.js';
import { ManualClock } from '../support/manual-clock.js';

const path = '/runtime.v1.RuntimeService/RunPodSandbox';
const bytes = Buffer.from('a request');
const youngMs = 900_000;

function answerOf(message: Buffer): UpstreamAnswer {
  return { message, initialMetadata: [], status: { code: 0, message: '', trailers: [] } };
}

/** Keeps the first request of a creation waiting, and answers others as it is told. */
class StallingRuntime implements Upstream {
  readonly asked: UpstreamCallOptions[] = [];
  readonly paths: string[] = [];
  name = 'cri-o';
  /** What there is for a further request. */
  made: UpstreamAnswer | undefined;
  end: (answer: UpstreamAnswer) => void = () => {};

  async unary(called: string, request: Buffer, options: UpstreamCallOptions = {}): Promise<UpstreamAnswer> {
    this.paths.push(called);
    if (called.endsWith('/Version')) return answerOf(encodeMessage('VersionResponse', { runtime_name: this.name }));
    t.equal(request, bytes);
    this.asked.push(options);
    if (this.asked.length > 1) {
      if (this.made !== undefined) return this.made;
      throw new UpstreamStatusError({ code: 4, message: 'context deadline exceeded: name is reserved', trailers: [] });
    }
    return new Promise((resolve, reject) => {
      this.end = resolve;
      options.signal?.addEventListener('abort', () => reject(new Error('cancelled')));
    });
  }

  serverStream(): UpstreamStream {
    throw new Error('no stream is asked for');
  }

  close(): void {}
}

function setUp() {
  const runtime = new StallingRuntime();
  const clock = new ManualClock();
  const stalled = new StalledCreations(runtime, clock, youngMs);
  const leave = new AbortController();
  const ask = () =>
    stalled.unary(path, bytes, { metadata: [['a', 'b']], timeoutMs: 900_000, signal: leave.signal, lane: 'work' });
  return { runtime, clock, ask, leave };
}

t.test('what CRI-O keeps for the next request is fetched, and the request that waits is ended', async (t) => {
  const { runtime, clock, ask } = setUp();
  const asked = ask();
  await clock.advance(12_000);
  t.equal(runtime.asked.length, 3, 'two were in vain');
  runtime.made = answerOf(Buffer.from('s1'));
  await clock.advance(5_000);
  t.equal(await asked, runtime.made);
  t.match(runtime.asked[1], { metadata: [['a', 'b']], timeoutMs: 1_000, lane: 'work' });
  t.equal(runtime.asked[0]?.signal?.aborted, true);
  await clock.advance(60_000);
  t.equal(runtime.asked.length, 4);
  t.equal(clock.pending, 0);
});

t.test('the one that makes it is left alone, and is the answer', async (t) => {
  const { runtime, clock, ask } = setUp();
  const asked = ask();
  await clock.advance(11_000);
  t.notOk(runtime.asked[0]?.signal?.aborted);
  const answer = answerOf(Buffer.from('s1'));
  runtime.end(answer);
  t.equal(await asked, answer);
  await clock.advance(60_000);
  t.equal(runtime.asked.length, 3);
  t.equal(clock.pending, 0);
});

t.test('no other runtime gets a second request', async (t) => {
  const { runtime, clock, ask } = setUp();
  runtime.name = 'containerd';
  const asked = ask();
  await clock.advance(60_000);
  t.strictSame(runtime.paths, [path, '/runtime.v1.RuntimeService/Version']);
  runtime.end(answerOf(Buffer.from('s1')));
  await asked;
});

t.test('a Holdfast that has been there for longer than a creation takes asks once', async (t) => {
  const { runtime, clock, ask } = setUp();
  await clock.advance(youngMs + 1);
  const asked = ask();
  await clock.advance(60_000);
  t.strictSame(runtime.paths, [path]);
  runtime.end(answerOf(Buffer.from('s1')));
  await asked;
});

t.test('whoever ends the creation ends the asking', async (t) => {
  const { runtime, clock, ask, leave } = setUp();
  const asked = ask();
  await clock.advance(2_000);
  leave.abort();
  await t.rejects(asked, { message: 'cancelled' });
  await clock.advance(60_000);
  t.strictSame(runtime.paths, [path]);
  t.equal(clock.pending, 0);
});

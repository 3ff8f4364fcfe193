import t from 'tap';
import { GrpcCode } from '../../src/proxy/grpc-code.js';
import { RuntimeProbe } from '../../src/proxy/runtime-probe.js';
import { type UpstreamAnswer, type UpstreamCallOptions, UpstreamStatusError } from '../../src/proxy/upstream.js';
import { ManualClock, settle } from '../support/manual-clock.js';

function stage() {
  const clock = new ManualClock();
  const runtime = { absentMs: undefined as number | undefined };
  const asked: { path: string; options: UpstreamCallOptions; answer(): void; fail(error: unknown): void }[] = [];
  const unary = (path: string, _: Buffer, options: UpstreamCallOptions = {}) =>
    new Promise<UpstreamAnswer>((resolve, reject) => {
      const status = { code: 0, message: '', trailers: [] };
      const answer = () => resolve({ message: Buffer.alloc(0), initialMetadata: [], status });
      asked.push({ path, options, answer, fail: reject });
    });
  const probe = new RuntimeProbe({ unary }, clock, () => runtime.absentMs);
  return { clock, runtime, asked, probe };
}

const status = (code: number) => new UpstreamStatusError({ code, message: 'said so', trailers: [] });

t.test('a runtime that says its version answers; who asks meanwhile is told the same', async (t) => {
  const { clock, asked, probe } = stage();
  const both = [probe.ask(), probe.ask()];
  t.equal(asked.length, 1);
  t.match(asked[0], { path: '/runtime.v1.RuntimeService/Version', options: { lane: 'looks' } });
  asked[0]?.answer();
  t.same(await Promise.all(both), [{ answers: true }, { answers: true }]);
  t.equal(clock.pending, 0);
  void probe.ask();
  t.equal(asked.length, 2, 'it is asked anew later');
});

t.test('any status of its own is an answer, but for those that say that nobody gave one', async (t) => {
  const cases = [
    [GrpcCode.unimplemented, true],
    [GrpcCode.unknown, true],
    [GrpcCode.unavailable, false],
    [GrpcCode.deadlineExceeded, false],
    [GrpcCode.cancelled, false],
  ] as const;
  for (const [code, answers] of cases) {
    const { asked, probe } = stage();
    const health = probe.ask();
    asked[0]?.fail(status(code));
    t.match(
      await health,
      answers ? { answers } : { answers, why: /^the runtime does not answer: .*said so/ },
      String(code),
    );
  }
});

t.test('one that says nothing for 5 s does not answer, and is asked no more', async (t) => {
  const { clock, asked, probe } = stage();
  const health = probe.ask();
  await clock.advance(4_999);
  t.equal(asked[0]?.options.signal?.aborted, false);
  await clock.advance(1);
  t.same(await health, {
    answers: false,
    why: 'the runtime accepts connections, and has not said its version for 5 s',
  });
  t.equal(asked[0]?.options.signal?.aborted, true);
});

t.test('one that is not there is not asked, and told of with how long that is so', async (t) => {
  const { clock, runtime, asked, probe } = stage();
  const why = (s: number) => `the runtime is not there: nobody has accepted connections at its socket for ${s} s`;
  runtime.absentMs = 7_400;
  t.same(await probe.ask(), { answers: false, why: why(7) });
  t.equal(asked.length, 0);
  runtime.absentMs = undefined;
  const health = probe.ask();
  await settle();
  runtime.absentMs = 5_000;
  await clock.advance(5_000);
  t.same(await health, { answers: false, why: why(5) });
});

/** What a downstream is told of what went wrong. */
import t from 'tap';
import { NameReservedError } from '../../src/cache/creation-runtime.js';
import {
  CallTimeoutError,
  DroppedError,
  GivenUpError,
  PodSandboxEndedError,
  ShutDownError,
  WaiterLeftError,
} from '../../src/cache/detached-call.js';
import { StartedMeanwhileError } from '../../src/cache/second-copy-guard.js';
import { GrpcCode } from '../../src/proxy/grpc-code.js';
import { UnreadableError } from '../../src/proxy/own-calls.js';
import { containerNotFound, EmptyIdError, failCall, faultStatus, isFault, statusOf } from '../../src/proxy/rescue.js';
import type { Metadata, Status, TakenCall } from '../../src/proxy/taken-call.js';
import { UpstreamStatusError } from '../../src/proxy/upstream.js';

const said: Status = { code: 7, message: 'no', wireMessage: 'n%6f', trailers: [['why', 'not']] };

/** What a call that fails with this sends, in order. */
async function sentFor(error: unknown): Promise<readonly unknown[]> {
  const sent: unknown[] = [];
  const call = {
    sendInitialMetadata: (metadata: Metadata) => sent.push({ metadata }),
    end: async (status: Status) => {
      sent.push(status);
      return true;
    },
  };
  await failCall(call as unknown as TakenCall, error);
  return sent;
}

t.test('what the runtime said is told in its own words, also where it is the cause of a name that is taken', (t) => {
  const own = new UpstreamStatusError(said);
  t.equal(statusOf(own), said);
  t.equal(statusOf(new NameReservedError(own, 'x')), said);
  const other = new NameReservedError(new Error('taken'), 'x');
  t.same(statusOf(other), { code: GrpcCode.internal, message: 'taken', trailers: [] });
  const wrapped = new Error('lost', { cause: own });
  t.same(statusOf(wrapped), { code: GrpcCode.internal, message: 'lost', trailers: [] }, 'only that cause');
  t.end();
});

t.test('what went wrong in Holdfast has the code that a runtime would give', (t) => {
  for (const [error, code] of [
    [new PodSandboxEndedError('stopped'), GrpcCode.failedPrecondition],
    [new CallTimeoutError(900_000), GrpcCode.deadlineExceeded],
    [new DroppedError('nobody asked'), GrpcCode.deadlineExceeded],
    [
      new StartedMeanwhileError({ containerId: 'c1', attempt: 0, sinceMs: 0 }, 1, { state: 'running' }, () => {}),
      GrpcCode.aborted,
    ],
    [new ShutDownError('ends'), GrpcCode.unavailable],
    [new EmptyIdError('/runtime.v1.RuntimeService/RunPodSandbox'), GrpcCode.internal],
    [new TypeError('x is undefined'), GrpcCode.internal],
  ] as const) {
    t.same(statusOf(error), { code, message: error.message, trailers: [] }, error.name);
  }
  t.same(statusOf('thrown'), { code: GrpcCode.internal, message: 'thrown', trailers: [] });
  t.end();
});

t.test('an error goes downstream with the headers that the runtime sent ahead of it, and only those', async (t) => {
  const metadata: Metadata = [['x-runtime', 'yes']];
  t.same(await sentFor(new UpstreamStatusError(said, metadata)), [{ metadata }, said]);
  t.same(await sentFor(new NameReservedError(new UpstreamStatusError(said, metadata), 'x')), [{ metadata }, said]);
  t.same(await sentFor(new UpstreamStatusError(said, [])), [{ metadata: [] }, said]);
  t.same(await sentFor(new UpstreamStatusError(said)), [said], 'a status alone');
  t.match(await sentFor(new Error('lost')), [{ code: GrpcCode.internal, message: 'lost' }]);
});

t.test('a hidden container is not found, in words that quote its id', (t) => {
  const message = 'an error occurred when try to find container "a\\"b": not found';
  t.same(containerNotFound('a"b'), { code: GrpcCode.notFound, message, trailers: [] });
  t.end();
});

t.test('an answer that does not say what was made is said by its method', (t) => {
  t.equal(String(new EmptyIdError('/p.S/M')), 'EmptyIdError: the runtime answered /p.S/M with an empty id');
  t.end();
});

t.test('what is thrown on purpose is no fault, all else is', (t) => {
  const refused = new UpstreamStatusError(said);
  for (const error of [
    refused,
    new NameReservedError(refused, 'x'),
    new UnreadableError('ContainerStatusResponse', new RangeError('index out of range')),
    new EmptyIdError('/runtime.v1.RuntimeService/RunPodSandbox'),
    new CallTimeoutError(1),
    new DroppedError('nobody asked'),
    new PodSandboxEndedError('s1'),
    new GivenUpError(1),
    new ShutDownError('ends'),
    new StartedMeanwhileError({ containerId: 'c1', attempt: 0, sinceMs: 0 }, 1, undefined, () => {}),
    new WaiterLeftError(),
  ]) {
    t.notOk(isFault(error), error.name);
  }
  for (const error of [new TypeError('x is undefined'), new Error('broken invariant'), 'thrown', undefined]) {
    t.ok(isFault(error), String(error));
  }
  t.end();
});

t.test('who meets a fault is told to ask again, and what it was', (t) => {
  const status = (message: string) => ({ code: GrpcCode.unavailable, message, trailers: [] });
  t.same(faultStatus(new TypeError('x')), status('holdfast: a fault inside Holdfast, ask again: x'));
  t.same(faultStatus('thrown'), status('holdfast: a fault inside Holdfast, ask again: thrown'));
  t.end();
});

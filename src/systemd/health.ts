/**
 * Whether this process does its work: a `Version` call over a connection of its own, as any client's, through the socket it listens
 * on. Where that is not answered the runtime is asked directly, since what a runtime does not answer nobody can: a runtime that is
 * frozen must not cost the creations that are under way.
 */
import type { Clock } from '../clock.js';
import { Dialer } from '../proxy/http2/dialer.js';
import { openGrpcClient } from '../proxy/http2/grpc-client.js';

/**
 * - `serves`: the call was answered.
 * - `runtime silent`: nor does the runtime answer; it is absent, frozen or buried.
 * - `not reached`: the runtime answers, and nobody listens at the path of the socket, whose file was removed or replaced. Who is
 *   connected is served all the same.
 * - `stuck`: the runtime answers, and this process does not.
 */
export type Health = 'serves' | 'runtime silent' | 'not reached' | 'stuck';

interface HealthDeps {
  /** Path of the socket this process listens on. */
  readonly listen: string;
  /** Path of the runtime's socket. */
  readonly runtime: string;
  readonly clock: Clock;
}

type Answer = 'ok' | 'no' | 'nobody there';

const version = '/runtime.v1.RuntimeService/Version';
/** The runtime is asked too when the own call takes longer than this part of the limit. */
const patiencePart = 0.25;

/** @param limitMs How long an answer may take. */
export async function lookAtHealth({ listen, runtime, clock }: HealthDeps, limitMs: number): Promise<Health> {
  const own = ask(listen, clock, limitMs);
  const early = await Promise.race([own, after(clock, limitMs * patiencePart)]);
  if (early === 'ok') return 'serves';
  const straight = await ask(runtime, clock, limitMs);
  // A runtime that is not there is waited for: the own call would go on to its deadline.
  if (straight === 'nobody there') return 'runtime silent';
  const through = await own;
  if (through === 'ok') return 'serves';
  if (straight === 'no') return 'runtime silent';
  return through === 'nobody there' ? 'not reached' : 'stuck';
}

/** On a connection made for it. */
function ask(path: string, clock: Clock, timeoutMs: number): Promise<Answer> {
  return new Promise((resolve) => {
    const end = (answer: Answer) => {
      resolve(answer);
      client.close();
      dialer.close();
    };
    const dialer = new Dialer(path, clock, {
      appeared() {},
      // A full queue (EAGAIN) has somebody behind it.
      vanished: (cause) => end(cause?.code === 'ENOENT' || cause?.code === 'ECONNREFUSED' ? 'nobody there' : 'no'),
    });
    const client = openGrpcClient(dialer, clock);
    client.unary(version, Buffer.alloc(0), { timeoutMs }).then(
      () => end('ok'),
      () => end('no'),
    );
  });
}

function after(clock: Clock, ms: number): Promise<undefined> {
  return new Promise((resolve) => void clock.after(ms, () => resolve(undefined)));
}

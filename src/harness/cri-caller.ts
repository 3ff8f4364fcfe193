/** A CRI v1 client of unary calls on a unix socket, messages as in messages.ts. Knows nothing of what is on the other side. */
import * as grpc from '@grpc/grpc-js';
import { criMethods, decode, encode } from './messages.js';

const identity = (bytes: Buffer): Buffer => bytes;

/** Makes the kubelet's unary calls. */
export interface Caller {
  /**
   * @param method As in the .proto, e.g. `RunPodSandbox`.
   * @param timeoutMs How long the caller waits.
   * @param signal Cancels the call.
   * @throws {grpc.ServiceError} Any status but OK.
   */
  call<T>(method: string, request: object, timeoutMs: number, signal: AbortSignal): Promise<T>;
  close(): void;
}

export class CriCaller implements Caller {
  readonly #client: grpc.Client;

  /** @param socketPath Absolute path of the unix socket; it need not exist yet. */
  constructor(socketPath: string) {
    this.#client = new grpc.Client(`unix:${socketPath}`, grpc.credentials.createInsecure(), {
      'grpc.max_receive_message_length': -1,
      'grpc.use_local_subchannel_pool': 1,
    });
  }

  call<T>(method: string, request: object, timeoutMs: number, signal: AbortSignal): Promise<T> {
    const found = criMethods.get(method);
    if (found === undefined) throw new RangeError(`no method ${method} in cri.proto`);
    return new Promise((resolve, reject) => {
      const cancel = (): void => call.cancel();
      const call = this.#client.makeUnaryRequest(
        `/runtime.v1.${found.service}/${method}`,
        identity,
        identity,
        encode(found.requestType, request),
        { deadline: Date.now() + timeoutMs },
        (error, answer) => {
          signal.removeEventListener('abort', cancel);
          if (error === null && answer !== undefined) resolve(decode<T>(found.responseType, answer));
          else reject(error);
        },
      );
      if (signal.aborted) cancel();
      else signal.addEventListener('abort', cancel, { once: true });
    });
  }

  close(): void {
    this.#client.close();
  }
}

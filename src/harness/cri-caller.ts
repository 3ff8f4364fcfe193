/** A CRI v1 client on a unix socket, messages as in messages.ts. Knows nothing of what is on the other side. */
import * as grpc from '@grpc/grpc-js';
import { criMethods, decode, encode } from './runtime/messages.js';

const identity = (bytes: Buffer): Buffer => bytes;

/** Makes the kubelet's calls. */
export interface Caller {
  /**
   * @param method As in the .proto, e.g. `RunPodSandbox`.
   * @param timeoutMs How long the caller waits.
   * @param signal Cancels the call.
   * @throws {grpc.ServiceError} Any status but OK.
   */
  call<T>(method: string, request: object, timeoutMs: number, signal: AbortSignal): Promise<T>;
  /**
   * A call without a deadline that is answered with a stream; only GetContainerEvents needs it.
   *
   * @param take Gets each message.
   * @param signal Cancels the call.
   * @returns At the end of the stream.
   * @throws {grpc.ServiceError} Any status but OK.
   */
  stream?<T>(method: string, request: object, take: (message: T) => void, signal: AbortSignal): Promise<void>;
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
    const { path, bytes, responseType } = outgoing(method, request);
    return new Promise((resolve, reject) => {
      const call = this.#client.makeUnaryRequest(
        path,
        identity,
        identity,
        bytes,
        { deadline: Date.now() + timeoutMs },
        (error, answer) => {
          stopListening();
          if (error === null && answer !== undefined) resolve(decode<T>(responseType, answer));
          else reject(error);
        },
      );
      const stopListening = cancelOn(signal, call);
    });
  }

  stream<T>(method: string, request: object, take: (message: T) => void, signal: AbortSignal): Promise<void> {
    const { path, bytes, responseType } = outgoing(method, request);
    return new Promise((resolve, reject) => {
      const call = this.#client.makeServerStreamRequest(path, identity, identity, bytes);
      const stopListening = cancelOn(signal, call);
      call.on('data', (message: Buffer) => take(decode<T>(responseType, message)));
      call.on('error', reject);
      call.on('end', resolve);
      call.on('status', stopListening);
    });
  }

  close(): void {
    this.#client.close();
  }
}

function outgoing(method: string, request: object): { path: string; bytes: Buffer; responseType: string } {
  const found = criMethods.get(method);
  if (found === undefined) throw new RangeError(`no method ${method} in cri.proto`);
  const { service, requestType, responseType } = found;
  return { path: `/runtime.v1.${service}/${method}`, bytes: encode(requestType, request), responseType };
}

/** @returns Lets go of the signal. */
function cancelOn(signal: AbortSignal, call: { cancel(): void }): () => void {
  const cancel = (): void => call.cancel();
  if (signal.aborted) cancel();
  else signal.addEventListener('abort', cancel, { once: true });
  return () => signal.removeEventListener('abort', cancel);
}

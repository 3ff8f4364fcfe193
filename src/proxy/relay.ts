/** A taken call that goes to the runtime after all, with its own metadata, deadline and cancel, and what may be cut from its answer. */
import type { Clock } from '../clock.js';
import { failCall } from './rescue.js';
import type { Status, TakenCall } from './taken-call.js';
import type { Upstream, UpstreamCallOptions } from './upstream.js';

/** @returns What goes downstream instead of a message, or the status that ends the call instead. */
export type Edit = (message: Buffer) => Buffer | Status | Promise<Buffer | Status>;

const unedited: Edit = (message) => message;

export class Relay {
  readonly #upstream: Upstream;
  readonly #clock: Clock;

  constructor(upstream: Upstream, clock: Clock) {
    this.#upstream = upstream;
    this.#clock = clock;
  }

  /** Options under which an upstream call ends when this downstream call does. */
  options(call: TakenCall): UpstreamCallOptions {
    const { metadata, signal, deadlineMs } = call;
    const timeoutMs = deadlineMs === undefined ? undefined : Math.max(0, deadlineMs - this.#clock.now());
    return { metadata, signal, timeoutMs, keep: (bytes) => call.keep(bytes) };
  }

  async unary(call: TakenCall, edit: Edit = unedited): Promise<void> {
    try {
      const answer = await this.#upstream.unary(call.path, call.request, this.options(call));
      const edited = await edit(answer.message);
      if (!Buffer.isBuffer(edited)) {
        await call.end(edited);
        return;
      }
      call.sendInitialMetadata(answer.initialMetadata);
      void call.send(edited);
      await call.end(answer.status);
    } catch (error) {
      await failCall(call, error);
    }
  }

  /** The runtime is read as fast as the downstream reads. */
  async serverStream(call: TakenCall, edit: Edit = unedited): Promise<void> {
    const stream = this.#upstream.serverStream(call.path, call.request, this.options(call));
    try {
      const metadata = await stream.initialMetadata;
      if (metadata !== undefined) call.sendInitialMetadata(metadata);
      for await (const message of stream) {
        const edited = await edit(message);
        if (Buffer.isBuffer(edited)) await call.send(edited);
      }
      await call.end(await stream.status);
    } catch (error) {
      await failCall(call, error);
    }
  }
}

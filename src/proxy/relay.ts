/** A taken call that goes to the runtime after all, with its own metadata, deadline and cancel, and what may be cut from its answer. */
import type { Clock } from '../clock.js';
import { statusOf } from './rescue.js';
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
    return { metadata, signal, timeoutMs };
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
      await call.end(statusOf(error));
    }
  }

  async serverStream(call: TakenCall, edit: Edit): Promise<void> {
    let sent: Promise<unknown> = Promise.resolve();
    const status = await this.#upstream.serverStream(call.path, call.request, this.options(call), {
      initialMetadata: (metadata) => call.sendInitialMetadata(metadata),
      message: (message) => {
        sent = sent.then(async () => {
          const edited = await edit(message);
          if (Buffer.isBuffer(edited)) await call.send(edited);
        });
      },
    });
    try {
      await sent;
      await call.end(status);
    } catch (error) {
      await call.end(statusOf(error));
    }
  }
}

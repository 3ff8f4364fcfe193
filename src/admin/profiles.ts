/** Profiles of this very process, in the formats of Chromium's DevTools. What makes them is loaded when the first one is asked for. */
import type { Session } from 'node:inspector';
import type { Readable } from 'node:stream';
import { HttpError } from './http.js';

/** Heaps beyond this are not written down: the event loop would stand still for longer than a watchdog waits. */
const maxHeapBytes = 128 * 1024 * 1024;

/** One profile at a time. */
export class Profiles {
  #busy: string | undefined;

  /**
   * Watches the CPU for a while.
   *
   * @param signal Ends it early, without a profile.
   * @returns A .cpuprofile.
   * @throws {HttpError} Another one is being made.
   */
  cpu(seconds: number, signal: AbortSignal): Promise<string> {
    return this.#alone('a CPU profile', async () => {
      const { Session } = await import('node:inspector');
      const session = new Session();
      session.connect();
      try {
        await post(session, 'Profiler.enable');
        await post(session, 'Profiler.start');
        await passed(seconds * 1000, signal);
        const { profile } = (await post(session, 'Profiler.stop')) as { profile: unknown };
        return JSON.stringify(profile);
      } finally {
        session.disconnect();
      }
    });
  }

  /**
   * Writes down the heap. The event loop stands still until it is done, 50 to 90 ms of CPU for each MiB (Node 20).
   *
   * @param write Takes the text of a .heapsnapshot to its end.
   * @throws {HttpError} Another profile is being made, or the heap is too large.
   */
  heap(write: (snapshot: Readable) => Promise<void>): Promise<void> {
    return this.#alone('a heap snapshot', async () => {
      const heapBytes = process.memoryUsage().heapUsed;
      if (heapBytes > maxHeapBytes) {
        throw new HttpError(
          503,
          `the heap is ${heapBytes >> 20} MiB: more than ${maxHeapBytes >> 20} MiB are not written down`,
        );
      }
      const { getHeapSnapshot } = await import('node:v8');
      await write(getHeapSnapshot());
    });
  }

  async #alone<Result>(what: string, make: () => Promise<Result>): Promise<Result> {
    if (this.#busy !== undefined) throw new HttpError(409, `${this.#busy} is being made: one at a time`);
    this.#busy = what;
    try {
      return await make();
    } finally {
      this.#busy = undefined;
    }
  }
}

function post(session: Session, method: string): Promise<unknown> {
  return new Promise((resolve, reject) => {
    session.post(method, (error: Error | null, result?: object) => (error === null ? resolve(result) : reject(error)));
  });
}

/** Rejects when the signal fires first. */
function passed(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const leave = () => {
      clearTimeout(timer);
      reject(new HttpError(499, 'the caller has left'));
    };
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', leave);
      resolve();
    }, ms);
    if (signal.aborted) leave();
    else signal.addEventListener('abort', leave, { once: true });
  });
}

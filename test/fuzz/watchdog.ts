/** Ends a process that hangs in one case, from another thread: the hanging one runs no timer. */
import { Worker } from 'node:worker_threads';

const watch = `
const { workerData: { shared, limitMs } } = require('node:worker_threads');
const { writeSync } = require('node:fs');
const state = new Uint32Array(shared);
const cpuMs = () => { const { user, system } = process.cpuUsage(); return (user + system) / 1000; };
let watched = 0;
let since = 0;
setInterval(() => {
  const [number, seed] = state;
  if (number !== watched) { watched = number; since = cpuMs(); }
  else if (number > 0 && cpuMs() - since > limitMs) {
    writeSync(2, 'seed ' + seed + ': takes more than ' + limitMs + ' ms of CPU time\\n');
    process.kill(process.pid, 'SIGKILL');
  }
}, 100);
`;

export class Watchdog {
  readonly #state = new Uint32Array(new SharedArrayBuffer(8));
  readonly #worker: Worker;

  /** @param limitMs CPU time of one case. */
  constructor(limitMs: number) {
    this.#worker = new Worker(watch, { eval: true, workerData: { shared: this.#state.buffer, limitMs } });
    this.#worker.unref();
  }

  /** A case begins, and the one before is done. */
  begin(seed: number): void {
    this.#state[1] = seed;
    this.#state[0] = (this.#state[0] ?? 0) + 1;
  }

  /** No case is running. */
  async stop(): Promise<void> {
    await this.#worker.terminate();
  }
}

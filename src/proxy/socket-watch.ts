/**
 * Looks at the socket file of Holdfast and at that of the runtime, once a second: who may connect stays who may connect to
 * the runtime, and a socket file that is gone is made again. Says in the log what it found and did; how is in listen.ts.
 */
import type { Logger } from 'pino';
import type { Clock } from '../clock.js';
import { type Adoption, type FoundFile, ListenError, type SocketListener } from './listen.js';

/** In ms. */
const lookEveryMs = 1_000;

/** How often somebody who answers at the path is asked again whether he still does, in ms: each time he gets a connection. */
const askEveryMs = 10_000;

/** `hidden`: this process may not look. */
type Found = FoundFile | 'hidden';

interface WatchDeps {
  readonly clock: Clock;
  readonly log: Logger;
}

/** @returns Ends it. The listener stays as it is. */
export function watchSocket(listener: SocketListener, deps: WatchDeps): () => void {
  const watch = new SocketWatch(listener, deps);
  watch.start();
  return () => watch.stop();
}

class SocketWatch {
  readonly #listener: SocketListener;
  readonly #clock: Clock;
  readonly #log: Logger;
  #stopped = false;
  #cancel = () => {};
  /** What keeps the listener from its path, and when that was found last. */
  #lost: { readonly why: string; readonly found: Found; readonly inUse: boolean; readonly atMs: number } | undefined;
  /** The owner and mode that the log has been told of as refused. */
  #refused: string | undefined;

  constructor(listener: SocketListener, { clock, log }: WatchDeps) {
    this.#listener = listener;
    this.#clock = clock;
    this.#log = log;
  }

  start(): void {
    void this.#look().finally(() => {
      if (!this.#stopped) this.#cancel = this.#clock.after(lookEveryMs, () => this.start());
    });
  }

  stop(): void {
    this.#stopped = true;
    this.#cancel();
  }

  async #look(): Promise<void> {
    let found: Found = 'hidden';
    try {
      found = this.#listener.find();
      if (found !== 'ours') await this.#listenAgain(found);
      else this.#lost = undefined;
      this.#noteAdoption(this.#listener.adoptMode());
    } catch (error) {
      this.#noteLoss(found, error);
    }
  }

  async #listenAgain(found: Exclude<FoundFile, 'ours'>): Promise<void> {
    const lost = this.#lost;
    const asked = lost?.inUse === true && lost.found === found && this.#clock.now() < lost.atMs + askEveryMs;
    if (asked) return;
    await this.#listener.listen();
    if (this.#stopped) return;
    this.#lost = undefined;
    const { path } = this.#listener;
    this.#log.warn(
      { path },
      found === 'gone'
        ? 'the socket file was gone; listening again'
        : 'a dead socket was in place of the socket file; listening again',
    );
  }

  /** Said once, and again when something else is the matter. */
  #noteLoss(found: Found, error: unknown): void {
    if (this.#stopped) return;
    const why = error instanceof Error ? error.message : String(error);
    const inUse = error instanceof ListenError && error.reason === 'in use';
    const isKnown = this.#lost?.why === why && this.#lost.found === found;
    this.#lost = { why, found, inUse, atMs: this.#clock.now() };
    if (isKnown) return;
    const { path } = this.#listener;
    if (found === 'hidden') this.#log.error({ path, error: why }, 'the socket file cannot be looked at');
    else if (found === 'gone') {
      this.#log.error(
        { path, error: why },
        'the socket file is gone: new connections are not possible; trying every second',
      );
    } else {
      this.#log.error(
        { path, error: why },
        'another file is in place of the socket file: new connections do not come here; listening again when it is gone',
      );
    }
  }

  #noteAdoption(adoption: Adoption): void {
    const { outcome } = adoption;
    if (outcome === 'unknown' || outcome === 'kept') return;
    const { uid, gid } = adoption;
    const mode = adoption.mode.toString(8).padStart(4, '0');
    if (outcome === 'adopted') {
      this.#log.info({ mode, uid, gid }, 'owner and mode of the socket file are those of the runtime now');
      return;
    }
    const refused = `${mode} ${uid} ${gid}`;
    if (refused === this.#refused) return;
    this.#refused = refused;
    this.#log.warn(
      { mode, uid, gid },
      'the socket file cannot be given to the owner of the runtime; its mode is that of the runtime',
    );
  }
}

/**
 * Keeps a container from running twice. A kubelet does not repeat a StartContainer that outlived it: it sees CREATED and asks for
 * the next attempt, at once or after a pull. So the creation of a higher attempt waits for a start of a lower one that nobody waits
 * for, and is refused once where that start went through and nobody is known to have been told. Knows attempts and how starts are
 * at, not how they are carried out.
 *
 * Starts are found by container (the family of fingerprint.ts), so a creation costs one look into a map, however many starts there
 * are, and waits for none but those of its own container.
 *
 * A start may name a container of which nothing is known yet, after a restart of Holdfast. Then it goes upstream only once the
 * runtime has said whose it is. A creation does not wait for that: it goes, and as long as such a start is about it is noted that it
 * went. Where the start then turns out to be of a lower attempt of the same container, it is the start that does not go: whoever
 * asked for the next attempt has given it up, and nothing of it has been done. So neither slips past the other, no creation waits
 * for the identification of a start, and the runtime is asked nothing more for it.
 */
import type { Clock } from '../clock.js';
import { untilAborted } from './detached-call.js';
import type { ContainerFingerprint } from './fingerprint.js';
import { SetMap } from './set-map.js';

/** Whose container it is: its identity without the attempt, as in `Fingerprint.family`, and the attempt. */
export interface ContainerAttempt {
  readonly family: string;
  readonly attempt: number;
}

/** How the runtime says a container is. */
export interface ContainerNow {
  /** `unknown`: the runtime has lost sight of it, and it may run. */
  readonly state: 'created' | 'running' | 'exited' | 'unknown' | 'gone';
  /** Of one that has exited. */
  readonly exitCode?: number | undefined;
  /** How long one that has exited ran, in ms. */
  readonly ranMs?: number | undefined;
  /** It has exited without having run: so containerd has it where a start failed (`started_at` is 0). */
  readonly neverRan?: boolean | undefined;
}

/** What a creation has to wait for. */
export interface StartInTheWay {
  readonly containerId: string;
  readonly attempt: number;
  /** When the start was asked for, in ms of the clock. */
  readonly sinceMs: number;
}

/** A start as the guard needs it. */
export interface StartToWatch extends StartInTheWay {
  readonly family: string;
  /** How long it is held against creations after it has ended, in ms. */
  readonly keptMs: number;
  /** Asks the runtime how the container is. Rejects where it cannot be told; settles in bounded time. */
  look(signal: AbortSignal): Promise<ContainerNow>;
  /** A creation was refused because of it. */
  guarded(askedAttempt: number, now: ContainerNow | undefined): void;
  /** What became of it could not be told, and creations do not wait for it any more. */
  letGo(error: unknown): void;
}

/**
 * A start of a lower attempt went through, and nobody is known to have been told, so the creation would have made a second copy.
 * Each start refuses creations once: whoever has heard of it decides anew.
 */
export class StartedMeanwhileError extends Error {
  override readonly name = 'StartedMeanwhileError';
  /** To be called where nobody was there to hear it: then the start refuses the next creation as well. */
  readonly unheard: () => void;

  constructor(start: StartInTheWay, askedAttempt: number, now: ContainerNow | undefined, unheard: () => void) {
    super(
      `container ${start.containerId} (attempt ${start.attempt}) was started meanwhile${described(now)}: ` +
        `attempt ${askedAttempt} is not made`,
    );
    this.unheard = unheard;
  }
}

/** How long the look may take that only completes a text, in ms. */
const textLookMs = 10_000;

/** Looks in a row that could not tell what became of a start. Then creations wait for it no more. */
const failedLooksAtMost = 3;

type State =
  | 'in flight'
  /** Nobody is known to have been told. */
  | 'started'
  /** It failed in a way that does not say whether the container was started. */
  | 'unclear'
  /** A creation was refused. */
  | 'refused'
  | 'out';

interface WaitingCreation {
  readonly attempt: number;
  go(): void;
  refuse(error: unknown): void;
}

/** A start under the eyes of the guard. What becomes of it is told here. */
export class WatchedStart {
  readonly start: StartToWatch;
  readonly #clock: Clock;
  readonly #moved: (isOut: boolean) => void;
  readonly #creations = new Set<WaitingCreation>();
  #state: State = 'in flight';
  #attended = true;
  #untilMs = Number.POSITIVE_INFINITY;
  #looking = false;
  #failedLooks = 0;

  /** @param moved Told whether any creation need care for it. */
  constructor(start: StartToWatch, clock: Clock, moved: (isOut: boolean) => void) {
    this.start = start;
    this.#clock = clock;
    this.#moved = moved;
  }

  /** Whether a creation of a higher attempt has to wait for it now. Once one does it stays so, whoever joins the start later. */
  get isInTheWay(): boolean {
    if (this.#state === 'in flight') return !this.#attended || this.#creations.size > 0;
    return (this.#state === 'started' || this.#state === 'unclear') && this.#clock.now() < this.#untilMs;
  }

  /** Whether anybody waits for the start. At first somebody does. */
  attended(yes: boolean): void {
    this.#attended = yes;
  }

  /** It went through. Nobody is known to have been told yet. */
  succeeded(): void {
    this.#ended('started');
  }

  /** It failed, and the container may have been started nevertheless. */
  failedUnclearly(): void {
    this.#ended('unclear');
  }

  /**
   * It has ended, and whoever asked for it is known to have been told, or it is too long ago. A creation that waits hears what the
   * look at the container says.
   */
  told(): void {
    this.#move('out');
  }

  /** There is nothing to wait for: it has not started the container, or that is stopped or removed. */
  over(): void {
    this.#move('out');
    for (const creation of [...this.#creations]) creation.go();
  }

  /** Resolves when it is out of the way. See {@link SecondCopyGuard.pass}. */
  wait(askedAttempt: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const leave = () => {
        this.#creations.delete(creation);
        reject(signal.reason);
      };
      const end = () => {
        signal.removeEventListener('abort', leave);
        this.#creations.delete(creation);
      };
      const creation: WaitingCreation = {
        attempt: askedAttempt,
        go() {
          end();
          resolve();
        },
        refuse(error) {
          end();
          reject(error);
        },
      };
      if (signal.aborted) {
        leave();
        return;
      }
      signal.addEventListener('abort', leave);
      this.#creations.add(creation);
      if (this.#state !== 'in flight') void this.#judge(this.#state);
    });
  }

  #ended(state: 'started' | 'unclear'): void {
    if (this.#state !== 'in flight') return;
    this.#untilMs = this.#clock.now() + this.start.keptMs;
    this.#move(state);
    if (this.#creations.size > 0) void this.#judge(state);
  }

  /** Looks at the container and tells the creations that wait, and those that come while it looks. */
  async #judge(state: State): Promise<void> {
    if (this.#looking) return;
    this.#looking = true;
    const { now, error } =
      state === 'started' ? await this.#seen() : await settled(this.start.look(new AbortController().signal));
    this.#looking = false;
    if (state === 'started') {
      // Whatever the look says, it was started.
      if (now?.state === 'created') this.over();
      else this.#refuse(now);
    } else if (now === undefined) this.#cannotTell(error);
    else if (now.state === 'created' || now.state === 'gone' || now.neverRan) this.over();
    else this.#refuse(now);
  }

  #refuse(now: ContainerNow | undefined): void {
    const before = this.#state;
    const unheard = () => {
      if (this.#state === 'refused') this.#move(before);
    };
    const creations = [...this.#creations];
    if (creations.length > 0) this.#move('refused');
    for (const creation of creations) {
      this.start.guarded(creation.attempt, now);
      creation.refuse(new StartedMeanwhileError(this.start, creation.attempt, now, unheard));
    }
  }

  #cannotTell(error: unknown): void {
    this.#failedLooks += 1;
    if (this.#failedLooks >= failedLooksAtMost && this.#state === 'unclear') {
      this.start.letGo(error);
      this.#move('out');
    }
    for (const creation of [...this.#creations]) creation.refuse(error);
  }

  #move(state: State): void {
    this.#state = state;
    this.#moved(state === 'out' || state === 'refused');
  }

  /** What only completes a text is not waited for long. */
  async #seen(): Promise<Look> {
    const abort = new AbortController();
    const cancelTimer = this.#clock.after(textLookMs, () => abort.abort());
    const look = await settled(untilAborted(this.start.look(abort.signal), abort.signal));
    cancelTimer();
    return look;
  }
}

export class SecondCopyGuard {
  readonly #clock: Clock;
  readonly #families = new SetMap<WatchedStart>();
  /** Numbers of the starts whose container is not known yet, in order. */
  readonly #unidentified = new Set<number>();
  /** Creations that went while there was such a start: the highest attempt by family, and the last number then; in order of that. */
  readonly #gone = new Map<string, { readonly attempt: number; readonly after: number }>();
  #lastNumber = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Containers that have a start which may be in the way, and creations of which it is noted that they went. */
  get sizes(): { readonly containers: number; readonly gone: number } {
    return { containers: this.#families.size, gone: this.#gone.size };
  }

  /** A start that is asked for. Told here before it goes upstream. */
  watch(start: StartToWatch): WatchedStart {
    const watched: WatchedStart = new WatchedStart(start, this.#clock, (isOut) => {
      if (isOut) this.#families.delete(start.family, watched);
      else this.#families.add(start.family, watched);
    });
    this.#families.add(start.family, watched);
    return watched;
  }

  /**
   * A start of a container of which nothing is known yet. It may not go upstream before it is known.
   *
   * @returns To be called once: whose container it is, undefined where nobody can say. It answers whether the start may go; where
   *   it may, it is to be watched at once.
   */
  unidentified(): (container: ContainerAttempt | undefined) => boolean {
    this.#lastNumber += 1;
    const number = this.#lastNumber;
    this.#unidentified.add(number);
    return (container) => {
      const mayGo = container === undefined || !this.#hasGone(container, number);
      this.#unidentified.delete(number);
      this.#forgetGone();
      return mayGo;
    };
  }

  /**
   * The start that this creation has to wait for, or be judged by, now.
   *
   * @returns undefined where the creation may go. Where it was told so it counts as gone.
   */
  inTheWay({ family, identity: { attempt } }: ContainerFingerprint): StartInTheWay | undefined {
    const start = this.#find(family, attempt)?.start;
    return start && { containerId: start.containerId, attempt: start.attempt, sinceMs: start.sinceMs };
  }

  /**
   * Resolves when the creation may go.
   *
   * @param signal Ends the wait; then it rejects with the signal's reason.
   * @throws {StartedMeanwhileError} A lower attempt was started.
   * @throws What the look at the container failed with, where a start failed in a way that does not say what became of it.
   */
  async pass({ family, identity: { attempt } }: ContainerFingerprint, signal: AbortSignal): Promise<void> {
    for (;;) {
      const watched = this.#find(family, attempt);
      if (watched === undefined) return;
      await watched.wait(attempt, signal);
    }
  }

  #find(family: string, attempt: number): WatchedStart | undefined {
    for (const watched of this.#families.get(family) ?? []) {
      if (watched.start.attempt < attempt && watched.isInTheWay) return watched;
    }
    if (attempt > 0 && this.#unidentified.size > 0) this.#noteGone(family, attempt);
    return undefined;
  }

  #noteGone(family: string, attempt: number): void {
    const before = this.#gone.get(family);
    this.#gone.delete(family);
    this.#gone.set(family, { attempt: Math.max(attempt, before?.attempt ?? 0), after: this.#lastNumber });
  }

  /** Whether a higher attempt went while the start with this number was about. */
  #hasGone({ family, attempt }: ContainerAttempt, number: number): boolean {
    const gone = this.#gone.get(family);
    return gone !== undefined && gone.after >= number && gone.attempt > attempt;
  }

  /** Only starts that were asked for before a creation went are held against it. */
  #forgetGone(): void {
    const [oldest = Number.POSITIVE_INFINITY] = this.#unidentified;
    for (const [family, { after }] of this.#gone) {
      if (after >= oldest) return;
      this.#gone.delete(family);
    }
  }
}

interface Look {
  readonly now?: ContainerNow;
  readonly error?: unknown;
}

async function settled(look: Promise<ContainerNow>): Promise<Look> {
  try {
    return { now: await look };
  } catch (error) {
    return { error };
  }
}

function described(now: ContainerNow | undefined): string {
  if (now === undefined) return '; its state could not be seen';
  if (now.state === 'running') return ' and is running';
  if (now.state === 'gone') return ' and is there no more';
  if (now.state === 'unknown') return '; the runtime does not know its state';
  const after = now.ranMs === undefined ? '' : ` after ${Math.round(now.ranMs / 1_000)} s`;
  return ` and has exited with code ${now.exitCode ?? 'unknown'}${after}`;
}

/** How far the arms of a run are, for a terminal: a line for each that is drawn again and again, or plain lines elsewhere. */
import { type Clock, systemClock } from '../../clock.js';
import { plain } from './plain.js';

/** What `process.stderr` is. */
export interface ProgressStream {
  readonly isTTY?: boolean | undefined;
  readonly columns?: number | undefined;
  readonly rows?: number | undefined;
  write(text: string): unknown;
}

export interface ArmProgress {
  readonly running: number;
  readonly pods: number;
  readonly elapsedMs: number;
  /** How long it is watched at most. */
  readonly watchMs: number;
}

const drawEveryMs = 100;
const barWidth = 24;
const maxName = 20;

export class Progress {
  readonly #stream: ProgressStream;
  readonly #clock: Clock;
  readonly #arms = new Map<string, ArmProgress>();
  /** Lines above the cursor, which is always at the start of the line after them. */
  #drawnLines = 0;
  #drawnAtMs = Number.NEGATIVE_INFINITY;
  #cancelDraw: (() => void) | undefined;
  #stopped = false;

  constructor(stream: ProgressStream, clock: Clock = systemClock) {
    this.#stream = stream;
    this.#clock = clock;
  }

  /** An arm of a new name gets a line of its own; one that is known is where it says now. */
  update(arm: string, state: ArmProgress): void {
    if (this.#stopped) return;
    this.#arms.set(arm, state);
    if (!this.#stream.isTTY || this.#cancelDraw) return;
    const inMs = this.#drawnAtMs + drawEveryMs - this.#clock.now();
    if (inMs <= 0) this.#draw();
    else this.#cancelDraw = this.#clock.after(inMs, () => this.#draw());
  }

  /** The arm is as it was told last. */
  end(arm: string): void {
    const state = this.#arms.get(arm);
    if (this.#stopped || state === undefined) return;
    if (this.#stream.isTTY) this.#draw();
    else this.#stream.write(`${plain(arm, maxName)}: ${told(state)}\n`);
  }

  /** Draws once more, and nothing after that: the cursor is at the start of an empty line below. */
  stop(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    if (this.#stream.isTTY && this.#arms.size > 0) this.#draw();
  }

  #draw(): void {
    this.#cancelDraw?.();
    this.#cancelDraw = undefined;
    this.#drawnAtMs = this.#clock.now();
    const { columns = 80, rows = 24 } = this.#stream;
    const names = [...this.#arms.keys()].map((name) => plain(name, maxName));
    const width = Math.max(...names.map(({ length }) => length));
    // What has left the screen cannot be drawn again, and a line that is wrapped would be two.
    const lines = [...this.#arms.values()]
      .map((state, at) => plain(`${names[at]?.padEnd(width)}  ${bar(state)}  ${told(state)}`, columns - 1))
      .slice(-Math.max(1, rows - 1));
    const up = this.#drawnLines > 0 ? `\x1b[${this.#drawnLines}A` : '';
    // Below may be the ^C of a terminal.
    this.#stream.write(`\r${up}${lines.map((line) => `${line}\x1b[K\n`).join('')}\x1b[J`);
    this.#drawnLines = lines.length;
  }
}

function bar({ running, pods }: ArmProgress): string {
  const filled = pods > 0 ? Math.floor((barWidth * Math.min(running, pods)) / pods) : 0;
  return '█'.repeat(filled) + '░'.repeat(barWidth - filled);
}

function told({ running, pods, elapsedMs, watchMs }: ArmProgress): string {
  return `${running} of ${pods} pods run, ${(elapsedMs / 1000).toFixed(1)} s of ${(watchMs / 1000).toFixed(0)} s`;
}

/**
 * The client's SETTINGS: as the runtime gets them, and what of them concerns the DATA that Holdfast sends itself, from when it is in
 * force. Counts only; it writes nothing.
 */
import { forEachSetting, initialSettings, Setting } from './frames.js';

export class ClientSettings {
  /** SETTINGS_INITIAL_WINDOW_SIZE in force: the runtime's ACK of it has gone out. */
  initialWindowSize: number = initialSettings.windowSize;
  /**
   * What of each stream's window is not used, because the client has asked for a smaller one and its ACK has not gone out: as by a
   * server that reads SETTINGS before it answers (nghttp2 resets a stream that is over its new window at the ACK).
   */
  withheldWindow = 0;
  /** SETTINGS_INITIAL_WINDOW_SIZE of those whose ACK has not gone out, where they name it. */
  readonly #unacknowledged: (number | undefined)[] = [];
  #isFirst = true;

  get unacknowledged(): number {
    return this.#unacknowledged.length;
  }

  /**
   * The runtime is told to use no header table in its answers, so that their blocks need none of those that the client does not get.
   *
   * @param payload Of one SETTINGS frame.
   * @returns The payload for the runtime.
   */
  received(payload: Buffer): Buffer {
    const rewritten = Buffer.from(payload);
    let named = false;
    let windowSize: number | undefined;
    forEachSetting(payload, (id, value, at) => {
      if (id === Setting.initialWindowSize) windowSize = value;
      if (id !== Setting.headerTableSize) return;
      rewritten.writeUInt32BE(0, at + 2);
      named = true;
    });
    this.#unacknowledged.push(windowSize);
    this.#withhold();
    const complete = named || !this.#isFirst;
    this.#isFirst = false;
    return complete ? rewritten : Buffer.concat([rewritten, noHeaderTable]);
  }

  /** The runtime's ACK of the oldest goes out. @returns By how much the windows of all streams grow. */
  acknowledged(): number {
    const windowSize = this.#unacknowledged.shift();
    if (windowSize === undefined) return 0;
    const change = windowSize - this.initialWindowSize;
    this.initialWindowSize = windowSize;
    this.#withhold();
    return change;
  }

  #withhold(): void {
    let smallest = this.initialWindowSize;
    for (const windowSize of this.#unacknowledged) smallest = Math.min(smallest, windowSize ?? smallest);
    this.withheldWindow = this.initialWindowSize - smallest;
  }
}

/** SETTINGS_HEADER_TABLE_SIZE: 0, as an entry of a SETTINGS payload. */
export const noHeaderTable = Buffer.from([0, Setting.headerTableSize, 0, 0, 0, 0]);

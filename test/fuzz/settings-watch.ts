/** The settings of both peers as they come into force, and what they allow the router to write. */
import { Flag, FrameType, forEachSetting, initialSettings, max31, Setting } from '../../src/proxy/http2/frames.js';
import type { Frame } from '../proxy/http2/wire.js';

/** The header table of a decoder, which insists on a size update where its limit went below the size in use. */
class TableSize {
  #size: number = initialSettings.headerTableSize;
  /** The lowest limit since the last block. */
  #lowest = max31;
  #limit: number = initialSettings.headerTableSize;

  limit(bytes: number): void {
    this.#limit = bytes;
    this.#lowest = Math.min(bytes, this.#lowest);
  }

  /** @returns Whether a block may begin with these updates. */
  block(sizes: readonly number[]): boolean {
    const due = this.#lowest < this.#size;
    const [first = max31] = sizes;
    const right = (!due || first <= this.#lowest) && sizes.every((size) => size <= this.#limit);
    this.#lowest = max31;
    this.#size = sizes.at(-1) ?? this.#size;
    return right;
  }
}

interface ClientSettings {
  window: number | undefined;
  readonly tableSizes: number[];
}

function isSettings({ type, flags, streamId }: Frame): boolean {
  return type === FrameType.settings && (flags & Flag.ack) === 0 && streamId === 0;
}

function isAck({ type, flags }: Frame): boolean {
  return type === FrameType.settings && (flags & Flag.ack) !== 0;
}

export class SettingsWatch {
  /** Tables of the decoders at the client and at the runtime. */
  readonly clientTable = new TableSize();
  readonly runtimeTable = new TableSize();
  /** The runtime's SETTINGS_INITIAL_WINDOW_SIZE. */
  runtimeWindow: number = initialSettings.windowSize;
  #windowInForce: number = initialSettings.windowSize;
  readonly #unacknowledged: ClientSettings[] = [];
  #smallestBefore: number = initialSettings.windowSize;
  readonly #runtimeTables: (number | undefined)[] = [];

  /** What the client lets a stream send at first: a smaller window is honoured at once, a larger one from its ACK on. */
  get clientWindow(): number {
    return Math.max(this.#smallestBefore, this.#smallest);
  }

  get #smallest(): number {
    return Math.min(this.#windowInForce, ...this.#unacknowledged.map(({ window }) => window ?? max31));
  }

  beginStep(): void {
    this.#smallestBefore = this.#smallest;
  }

  fromClient(frame: Frame): void {
    if (!isSettings(frame)) return;
    const settings: ClientSettings = { window: undefined, tableSizes: [] };
    forEachSetting(frame.payload, (id, value) => {
      if (id === Setting.initialWindowSize) settings.window = value;
      if (id === Setting.headerTableSize) settings.tableSizes.push(value);
    });
    this.#unacknowledged.push(settings);
  }

  toClient(frame: Frame): void {
    if (!isAck(frame)) return;
    const settings = this.#unacknowledged.shift();
    if (settings === undefined) return;
    if (settings.window !== undefined) this.#windowInForce = settings.window;
    for (const size of settings.tableSizes) this.clientTable.limit(size);
  }

  fromRuntime(frame: Frame): void {
    if (!isSettings(frame)) return;
    let table: number | undefined;
    forEachSetting(frame.payload, (id, value) => {
      if (id === Setting.headerTableSize) table = value;
      if (id === Setting.initialWindowSize) this.runtimeWindow = value;
    });
    this.#runtimeTables.push(table);
  }

  toRuntime(frame: Frame): void {
    if (!isAck(frame)) return;
    const table = this.#runtimeTables.shift();
    if (table !== undefined) this.runtimeTable.limit(table);
  }
}

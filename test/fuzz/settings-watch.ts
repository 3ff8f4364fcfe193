/** The settings of both peers as they come into force, and what they allow the router to write. */
import { Flag, FrameType, forEachSetting, initialSettings, max31, Setting } from '../../src/proxy/http2/frames.js';
import type { Frame } from '../proxy/http2/wire.js';

/** An identifier and a value (RFC 9113 section 6.5.1). */
const entryBytes = 6;

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

/** What a peer is told of the other's header table: that there is none, and that in the first SETTINGS. */
class TableBan {
  #isTold = false;

  /**
   * @param mayWait SETTINGS of the other peer are still to come.
   * @returns Whether a SETTINGS frame for the peer may be of this payload.
   */
  admits(payload: Buffer, mayWait: boolean): boolean {
    let none = true;
    forEachSetting(payload, (id, value) => {
      if (id !== Setting.headerTableSize) return;
      this.#isTold = true;
      none &&= value === 0;
    });
    return none && (this.#isTold || mayWait);
  }
}

interface ClientSettings {
  window: number | undefined;
  readonly tableSizes: number[];
}

function isSettings({ type, flags, streamId }: Frame): boolean {
  return type === FrameType.settings && (flags & Flag.ack) === 0 && streamId === 0;
}

/** @param payload Of SETTINGS, in hex. @returns What of them is forwarded as it came. */
export function withoutTableSizes(payload: string): string {
  const kept: Buffer[] = [];
  const bytes = Buffer.from(payload, 'hex');
  forEachSetting(bytes, (id, _value, at) => {
    if (id !== Setting.headerTableSize) kept.push(bytes.subarray(at, at + entryBytes));
  });
  return Buffer.concat(kept).toString('hex');
}

function isAck({ type, flags }: Frame): boolean {
  return type === FrameType.settings && (flags & Flag.ack) !== 0;
}

export class SettingsWatch {
  /** Tables of the decoders at the client and at the runtime. */
  readonly clientTable = new TableSize();
  readonly runtimeTable = new TableSize();
  readonly #clientsBan = new TableBan();
  readonly #runtimesBan = new TableBan();
  /** SETTINGS of Holdfast's own that go to the client before any of the runtime's. */
  ownSettings = 0;
  #toClient = 0;
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

  /** Whether the runtime waits for an ACK of its SETTINGS. */
  get runtimeAwaitsAck(): boolean {
    return this.#runtimeTables.length > 0;
  }

  /** @returns Whether SETTINGS, but no ACK, may go to that peer with this payload. */
  bansTable(peer: 'client' | 'runtime', payload: Buffer): boolean {
    if (peer === 'runtime') return this.#runtimesBan.admits(payload, false);
    this.#toClient += 1;
    return this.#clientsBan.admits(payload, this.#toClient <= this.ownSettings);
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

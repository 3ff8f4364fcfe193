/**
 * HPACK (RFC 7541) as the model's peers speak it. Written apart from src and simple rather than fast, so that it shares no
 * mistake; only the constant tables are the same.
 */
import { huffmanCodes, staticTable } from '../../../../src/proxy/http2/hpack-tables.js';

export interface Field {
  readonly name: string;
  readonly value: string;
  /** Never-indexed literal (section 6.2.3). */
  readonly never?: boolean;
}

const initialTableBytes = 4096;

class Table {
  /** Newest first. */
  readonly #entries: Field[] = [];
  maxBytes = initialTableBytes;

  add(name: string, value: string): void {
    this.#entries.unshift({ name, value });
    this.resize(this.maxBytes);
  }

  resize(maxBytes: number): void {
    this.maxBytes = maxBytes;
    let bytes = 0;
    const kept = this.#entries.findIndex(({ name, value }) => {
      bytes += name.length + value.length + 32;
      return bytes > maxBytes;
    });
    if (kept >= 0) this.#entries.length = kept;
  }

  at(index: number): Field {
    const [name, value] = staticTable[index - 1] ?? [];
    if (name !== undefined && value !== undefined) return { name, value };
    const entry = this.#entries[index - 1 - staticTable.length];
    if (entry === undefined) throw new Error(`no table entry ${index}`);
    return entry;
  }

  /** Index of an entry of this name, and value where given; 0: none. */
  find(name: string, value?: string): number {
    const fits = (entry: Field): boolean => entry.name === name && (value === undefined || entry.value === value);
    const dynamic = this.#entries.findIndex(fits);
    if (dynamic >= 0) return dynamic + 1 + staticTable.length;
    return staticTable.findIndex(([n, v]) => fits({ name: n, value: v })) + 1;
  }
}

export class Encoder {
  readonly #table = new Table();
  readonly #capBytes: number;
  /** Smallest size since the last block, where it has changed. */
  #lowest: number | undefined;

  /** @param capBytes The largest table it makes use of. */
  constructor(capBytes: number) {
    this.#capBytes = capBytes;
    this.setLimit(initialTableBytes);
  }

  /** The peer's SETTINGS_HEADER_TABLE_SIZE. */
  setLimit(bytes: number): void {
    const size = Math.min(bytes, this.#capBytes);
    if (size === this.#table.maxBytes) return;
    this.#lowest = Math.min(size, this.#lowest ?? size);
    this.#table.resize(size);
  }

  /** @param choose What says how the next field is represented: any number. */
  encode(fields: readonly Field[], choose: () => number): Buffer {
    const out: number[] = [];
    const { maxBytes } = this.#table;
    if (this.#lowest !== undefined && this.#lowest < maxBytes) writeInteger(out, 0x20, 5, this.#lowest);
    if (this.#lowest !== undefined) writeInteger(out, 0x20, 5, maxBytes);
    this.#lowest = undefined;
    for (const field of fields) this.#writeField(out, field, choose());
    return Buffer.from(out);
  }

  #writeField(out: number[], { name, value, never = false }: Field, choice: number): void {
    const exact = this.#table.find(name, value);
    if (!never && exact > 0 && choice % 2 === 0) {
      writeInteger(out, 0x80, 7, exact);
      return;
    }
    const incremental = !never && choice % 4 < 2;
    const nameIndex = choice % 3 === 0 ? 0 : this.#table.find(name);
    if (incremental) writeInteger(out, 0x40, 6, nameIndex);
    else writeInteger(out, never ? 0x10 : 0, 4, nameIndex);
    const huffman = choice % 5 < 2;
    if (nameIndex === 0) writeString(out, name, huffman);
    writeString(out, value, huffman);
    if (incremental) this.#table.add(name, value);
  }
}

function writeInteger(out: number[], flags: number, prefixBits: number, value: number): void {
  const prefix = 2 ** prefixBits - 1;
  if (value < prefix) {
    out.push(flags | value);
    return;
  }
  out.push(flags | prefix);
  let rest = value - prefix;
  for (; rest >= 128; rest = Math.floor(rest / 128)) out.push(128 | (rest % 128));
  out.push(rest);
}

function writeString(out: number[], text: string, huffman: boolean): void {
  const plain = Buffer.from(text, 'latin1');
  if (!huffman) {
    writeInteger(out, 0, 7, plain.length);
    for (const octet of plain) out.push(octet);
    return;
  }
  const coded: number[] = [];
  let bits = 0;
  let pending = 0;
  for (const octet of plain) {
    const symbol = huffmanCodes[octet];
    if (symbol === undefined) continue;
    for (let bit = symbol.bits - 1; bit >= 0; bit -= 1) {
      pending = (pending << 1) | ((symbol.code >>> bit) & 1);
      bits += 1;
      if (bits % 8 === 0) coded.push(pending & 0xff);
    }
  }
  const left = (8 - (bits % 8)) % 8;
  if (left > 0) coded.push(((pending << left) | (2 ** left - 1)) & 0xff);
  writeInteger(out, 0x80, 7, coded.length);
  for (const octet of coded) out.push(octet);
}

const symbols = new Map(
  [...huffmanCodes.entries()].map(([symbol, { bits, code }]) => [bits * 2 ** 32 + code, symbol] as const),
);

function readHuffman(coded: Buffer): string {
  const plain: number[] = [];
  let code = 0;
  let bits = 0;
  for (const octet of coded) {
    for (let bit = 7; bit >= 0; bit -= 1) {
      code = code * 2 + ((octet >>> bit) & 1);
      bits += 1;
      const symbol = symbols.get(bits * 2 ** 32 + code);
      if (symbol === undefined) continue;
      plain.push(symbol);
      code = 0;
      bits = 0;
    }
  }
  if (bits > 7 || code !== 2 ** bits - 1) throw new Error('Huffman padding');
  return Buffer.from(plain).toString('latin1');
}

export class Decoder {
  readonly #table = new Table();
  #limit = initialTableBytes;
  /** The next block has to begin with an update to at most this. */
  #expected: number | undefined;

  /** What the encoder may keep in its table. */
  get tableBytes(): number {
    return this.#table.maxBytes;
  }

  /** SETTINGS_HEADER_TABLE_SIZE, once the peer has acknowledged it. */
  setLimit(bytes: number): void {
    if (bytes < this.#table.maxBytes) this.#expected = Math.min(bytes, this.#expected ?? bytes);
    this.#limit = bytes;
  }

  /** @throws {Error} The block is malformed, or its encoder is out of step. */
  decode(block: Buffer): Field[] {
    const fields: Field[] = [];
    let at = 0;
    const octet = (): number => {
      const value = block[at];
      if (value === undefined) throw new Error('header block ends early');
      at += 1;
      return value;
    };
    const integer = (first: number, prefixBits: number): number => {
      const prefix = 2 ** prefixBits - 1;
      let value = first & prefix;
      if (value < prefix) return value;
      for (let unit = 1; ; unit *= 128) {
        const next = octet();
        value += (next & 127) * unit;
        if (next < 128) return value;
      }
    };
    const string = (): string => {
      const first = octet();
      const length = integer(first, 7);
      if (at + length > block.length) throw new Error('header block ends within a string');
      const bytes = block.subarray(at, at + length);
      at += length;
      return first >= 128 ? readHuffman(bytes) : bytes.toString('latin1');
    };
    while (at < block.length) {
      const first = octet();
      if (first >> 5 === 1) {
        if (fields.length > 0) throw new Error('size update behind a field');
        this.#update(integer(first, 5));
        continue;
      }
      if (this.#expected !== undefined) throw new Error('a size update was due');
      if (first >= 128) {
        const { name, value } = this.#table.at(integer(first, 7));
        fields.push({ name, value });
        continue;
      }
      const incremental = first >= 64;
      const index = integer(first, incremental ? 6 : 4);
      const name = index === 0 ? string() : this.#table.at(index).name;
      const value = string();
      if (incremental) this.#table.add(name, value);
      fields.push(!incremental && first >= 16 ? { name, value, never: true } : { name, value });
    }
    return fields;
  }

  #update(bytes: number): void {
    if (bytes > (this.#expected ?? this.#limit)) throw new Error(`size update to ${bytes}`);
    this.#expected = undefined;
    this.#table.resize(bytes);
  }
}

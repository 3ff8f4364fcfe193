/**
 * HPACK (RFC 7541): decodes the header blocks of one direction of a connection and writes blocks that mean the same to every
 * decoder. It knows neither frames nor what a field means; whole blocks go in and out.
 */
import { endOfString, huffmanCodes, staticTable } from './hpack-tables.js';

/** Strings are latin1, one character per byte. */
export interface HeaderField {
  readonly name: string;
  readonly value: string;
  /** Sent as never-indexed (RFC 7541 section 6.2.3): must stay so when re-encoded. */
  readonly neverIndexed?: boolean;
}

export interface DecodedBlock {
  readonly fields: readonly HeaderField[];
  /**
   * Whether the block neither refers to nor changes the dynamic table, so that it means the same to every decoder (size
   * updates aside). A field sent with incremental indexing counts as a change even where the table is too small to take it.
   */
  readonly selfContained: boolean;
  /** Whether it begins with a dynamic table size update (RFC 7541 section 6.3). */
  readonly sizeUpdate: boolean;
}

/** A malformed block: COMPRESSION_ERROR of RFC 9113 section 4.3. The decoder that threw it is of no further use. */
export class HpackError extends Error {
  override readonly name = 'HpackError';
}

/**
 * A well-formed block whose field list is above `maxHeaderListBytes`. The dynamic table has taken it in, so the connection
 * can go on.
 */
export class HeaderListTooLargeError extends Error {
  override readonly name = 'HeaderListTooLargeError';
}

/** Integers are kept below this bound, far above what any length, index or table size can be. */
const maxInteger = 0x7fffffff;
/** One octet for the prefix and what 31 bits take at 7 bits an octet. */
const maxIntegerOctets = 6;

/** Accounted to each entry beside name and value; RFC 7541 section 4.1, RFC 9113 section 6.5.2. */
const fieldOverheadBytes = 32;

const staticFields: readonly HeaderField[] = staticTable.map(([name, value]) => ({ name, value }));

/** Blocks that are remembered: a client sends the same few over and over, and reading one costs ten times what finding it does. */
const maxRemembered = 32;
const maxRememberedBytes = 512;

/** Tells blocks apart well enough: methods have paths of different lengths, or other letters in the middle. */
function digest(block: Buffer): number {
  const { length } = block;
  const quarter = length >> 2;
  const octetAt = (at: number) => block[at] as number;
  return (octetAt(quarter) << 24) ^ (octetAt(2 * quarter) << 16) ^ (octetAt(3 * quarter) << 9) ^ length;
}

/** Decodes the blocks of one direction of one connection, each whole and in the order they were sent. */
export class HpackDecoder {
  readonly #table: DynamicTable;
  readonly #maxHeaderListBytes: number;
  /** Those that mean the same whatever the table holds, and leave it alone; by `digest`. */
  readonly #remembered = new Map<number, { readonly block: Buffer; readonly decoded: DecodedBlock }>();

  /**
   * @param options.maxTableBytes SETTINGS_HEADER_TABLE_SIZE in force; the table starts with it (RFC 7541 section 4.2).
   * @param options.maxHeaderListBytes Bound of a decoded list, each field counted as name + value + 32 (RFC 9113 section 6.5.2).
   */
  constructor(options: { maxTableBytes: number; maxHeaderListBytes: number }) {
    this.#table = new DynamicTable(options.maxTableBytes);
    this.#maxHeaderListBytes = options.maxHeaderListBytes;
  }

  /** Size of the dynamic table as RFC 7541 section 4.1 counts it. For tests and metrics. */
  get tableBytes(): number {
    return this.#table.bytes;
  }

  /**
   * @param block All fragments of one header block, joined. It is not kept.
   * @throws {HpackError}
   * @throws {HeaderListTooLargeError}
   */
  decode(block: Buffer): DecodedBlock {
    if (block.length === 0 || block.length > maxRememberedBytes) return this.#read(block);
    const key = digest(block);
    const known = this.#remembered.get(key);
    if (known?.block.equals(block)) return known.decoded;
    const decoded = this.#read(block);
    if (decoded.selfContained && !decoded.sizeUpdate) {
      if (this.#remembered.size >= maxRemembered) this.#remembered.clear();
      this.#remembered.set(key, { block: Buffer.from(block), decoded });
    }
    return decoded;
  }

  #read(block: Buffer): DecodedBlock {
    const reader = new BlockReader(block);
    const fields: HeaderField[] = [];
    let listBytes = 0;
    let selfContained = true;
    let sizeUpdate = false;
    let fieldSeen = false;

    while (!reader.done) {
      const first = reader.peek();
      if ((first & 0xe0) === 0x20) {
        if (fieldSeen) throw new HpackError('dynamic table size update after a field');
        sizeUpdate = true;
        this.#table.resize(reader.integer(5));
        continue;
      }
      fieldSeen = true;

      let field: HeaderField;
      let index: number;
      if ((first & 0x80) !== 0) {
        index = reader.integer(7);
        field = this.#field(index);
      } else {
        const incremental = (first & 0x40) !== 0;
        index = reader.integer(incremental ? 6 : 4);
        const name = index === 0 ? reader.string() : this.#field(index).name;
        const value = reader.string();
        field = (first & 0xf0) === 0x10 ? { name, value, neverIndexed: true } : { name, value };
        if (incremental) {
          this.#table.add(field);
          selfContained = false;
        }
      }
      if (index > staticFields.length) selfContained = false;

      listBytes += fieldBytes(field);
      if (listBytes <= this.#maxHeaderListBytes) fields.push(field);
    }

    if (listBytes > this.#maxHeaderListBytes) {
      throw new HeaderListTooLargeError(`header list of ${listBytes} bytes, at most ${this.#maxHeaderListBytes} taken`);
    }
    return { fields, selfContained, sizeUpdate };
  }

  /** RFC 7541 section 2.3.3: one address space, static entries first, then dynamic ones from the newest on. */
  #field(index: number): HeaderField {
    const field =
      index <= staticFields.length ? staticFields[index - 1] : this.#table.get(index - staticFields.length - 1);
    if (field === undefined) throw new HpackError(`no table entry has index ${index}`);
    return field;
  }
}

class DynamicTable {
  /** Oldest first. */
  readonly #entries: HeaderField[] = [];
  readonly #limitBytes: number;
  #maxBytes: number;
  #bytes = 0;

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
    this.#maxBytes = limitBytes;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** @param age 0 for the newest entry. */
  get(age: number): HeaderField | undefined {
    return age < this.#entries.length ? this.#entries[this.#entries.length - 1 - age] : undefined;
  }

  /** An entry above the whole table empties it and is not kept (RFC 7541 section 4.4). */
  add(field: HeaderField): void {
    const bytes = fieldBytes(field);
    this.#evictTo(this.#maxBytes - bytes);
    if (bytes > this.#maxBytes) return;
    this.#entries.push(field);
    this.#bytes += bytes;
  }

  resize(maxBytes: number): void {
    if (maxBytes > this.#limitBytes) {
      throw new HpackError(`dynamic table size update to ${maxBytes} bytes, at most ${this.#limitBytes} allowed`);
    }
    this.#maxBytes = maxBytes;
    this.#evictTo(maxBytes);
  }

  #evictTo(bytes: number): void {
    let evicted = 0;
    while (this.#bytes > bytes) {
      const oldest = this.#entries[evicted];
      if (oldest === undefined) break;
      this.#bytes -= fieldBytes(oldest);
      evicted++;
    }
    if (evicted > 0) this.#entries.splice(0, evicted);
  }
}

/** Reads the primitives of RFC 7541 section 5 from one block. */
class BlockReader {
  readonly #block: Buffer;
  #at = 0;

  constructor(block: Buffer) {
    this.#block = block;
  }

  get done(): boolean {
    return this.#at >= this.#block.length;
  }

  /** The next octet, left in place. */
  peek(): number {
    const octet = this.#block[this.#at];
    if (octet === undefined) throw new HpackError('header block ends within a field');
    return octet;
  }

  /** Section 5.1. The bits of the first octet above the prefix are the caller's. */
  integer(prefixBits: number): number {
    const prefix = (1 << prefixBits) - 1;
    let value = this.peek() & prefix;
    this.#at++;
    if (value < prefix) return value;
    for (let unit = 1; unit <= 2 ** 28; unit *= 128) {
      const octet = this.peek();
      this.#at++;
      value += (octet & 0x7f) * unit;
      if (octet < 0x80) {
        if (value > maxInteger) break;
        return value;
      }
    }
    throw new HpackError('integer too large');
  }

  /** Section 5.2. */
  string(): string {
    const huffman = this.peek() >= 0x80;
    const length = this.integer(7);
    const start = this.#at;
    const end = start + length;
    if (end > this.#block.length) throw new HpackError('header block ends within a string');
    this.#at = end;
    return huffman ? decodeHuffman(this.#block, start, end) : this.#block.toString('latin1', start, end);
  }
}

/**
 * The Huffman code as a machine that takes four bits at a time: its states are the inner nodes of the code tree (0 is the root)
 * and one trap, entered by EOS and never left. No code is shorter than five bits, so a step completes one symbol at most.
 *
 * `steps[state * 16 + nibble]` is the next state in bits 0 to 8, whether a symbol is complete in bit 9, that symbol above.
 */
const trap = 256;
const steps = huffmanSteps();
/** The states in which a string may end: those one to seven 1 bits (how EOS begins) away from the root, and the root. */
const lastPaddingState = 7;

function huffmanSteps(): Uint32Array {
  // Two slots a node: another node where positive, a completed symbol where negative (its complement).
  const tree = new Int16Array((trap + 1) * 2);
  let nodes = 1;
  // From EOS down, so that the nodes along its 30 bits, all ones, are 0 to 29.
  for (const [symbol, { code, bits }] of [...huffmanCodes.entries()].reverse()) {
    let node = 0;
    for (let left = bits - 1; left > 0; left--) {
      const slot = node * 2 + ((code >>> left) & 1);
      if (tree[slot] === 0) tree[slot] = nodes++;
      node = tree[slot] as number;
    }
    tree[node * 2 + (code & 1)] = symbol === endOfString ? trap : ~symbol;
  }
  tree.fill(trap, trap * 2);

  return Uint32Array.from({ length: (trap + 1) * 16 }, (_, input) => {
    let node = input >>> 4;
    let completed = 0;
    for (let left = 3; left >= 0; left--) {
      node = tree[node * 2 + ((input >>> left) & 1)] as number;
      if (node < 0) {
        completed = (1 << 9) | (~node << 10);
        node = 0;
      }
    }
    return completed | node;
  });
}

/** Reused for every string that fits: nothing of it outlives a call. */
const scratch = Buffer.allocUnsafeSlow(16 * 1024);

function decodeHuffman(block: Buffer, start: number, end: number): string {
  const maxLength = Math.floor(((end - start) * 8) / 5) + 1;
  const text = maxLength <= scratch.length ? scratch : Buffer.allocUnsafeSlow(maxLength);
  let length = 0;
  let state = 0;
  for (let at = start; at < end; at++) {
    const octet = block[at] as number;
    // Written whether or not a symbol is complete: cheaper than a branch that no predictor gets right.
    let step = steps[(state << 4) | (octet >>> 4)] as number;
    text[length] = step >>> 10;
    length += (step >>> 9) & 1;
    step = steps[((step & 0x1ff) << 4) | (octet & 0x0f)] as number;
    text[length] = step >>> 10;
    length += (step >>> 9) & 1;
    state = step & 0x1ff;
  }
  if (state > lastPaddingState) throw new HpackError('Huffman string with EOS or wrong padding');
  return text.toString('latin1', 0, length);
}

/** The first static index of each name. */
const staticIndexes = new Map<string, number>();
for (const [position, { name }] of staticFields.entries()) {
  if (!staticIndexes.has(name)) staticIndexes.set(name, position + 1);
}

/**
 * A block that neither refers to nor fills a dynamic table: static entries, literals without indexing, never-indexed literals
 * for the fields that say so. Strings are Huffman-coded where that is shorter: nghttp2 as a client gives up its connection for
 * a string that takes more than 64 KiB (NGHTTP2_HD_MAX_NV), coded or not, and a long `grpc-message` of a runtime may come near.
 *
 * @param sizeUpdates Dynamic table sizes to announce ahead of the fields, in bytes, in order.
 */
export function encodeLiteralBlock(fields: Iterable<HeaderField>, sizeUpdates: readonly number[] = []): Buffer {
  const list = [...fields];
  let maxLength = sizeUpdates.length * maxIntegerOctets;
  for (const { name, value } of list) maxLength += name.length + value.length + 3 * maxIntegerOctets;
  const block = Buffer.allocUnsafe(maxLength);

  let at = 0;
  for (const size of sizeUpdates) at = writeInteger(block, at, 0x20, 5, size);
  for (const field of list) {
    const nameIndex = staticIndexes.get(field.name) ?? 0;
    const index = field.neverIndexed ? 0 : exactIndex(field, nameIndex);
    if (index !== 0) {
      at = writeInteger(block, at, 0x80, 7, index);
      continue;
    }
    at = writeInteger(block, at, field.neverIndexed ? 0x10 : 0x00, 4, nameIndex);
    if (nameIndex === 0) at = writeString(block, at, field.name);
    at = writeString(block, at, field.value);
  }
  return block.subarray(0, at);
}

/**
 * @param nameIndex First static entry of the field's name, 0 for none.
 * @returns The static entry with the field's value too, 0 for none.
 */
function exactIndex(field: HeaderField, nameIndex: number): number {
  if (nameIndex === 0) return 0;
  for (let index = nameIndex; staticFields[index - 1]?.name === field.name; index++) {
    if (staticFields[index - 1]?.value === field.value) return index;
  }
  return 0;
}

/** @returns Where the next octet goes. */
function writeInteger(block: Buffer, start: number, flags: number, prefixBits: number, value: number): number {
  const prefix = (1 << prefixBits) - 1;
  let at = start;
  if (value < prefix) {
    block[at++] = flags | value;
    return at;
  }
  block[at++] = flags | prefix;
  let rest = value - prefix;
  for (; rest >= 0x80; rest >>>= 7) block[at++] = 0x80 | (rest & 0x7f);
  block[at++] = rest;
  return at;
}

/**
 * Section 5.2.
 *
 * @returns Where the next octet goes.
 */
function writeString(block: Buffer, start: number, text: string): number {
  const coded = huffmanBytes(text);
  if (coded < text.length) return writeHuffman(block, writeInteger(block, start, 0x80, 7, coded), text);
  const at = writeInteger(block, start, 0x00, 7, text.length);
  return at + block.write(text, at, 'latin1');
}

/** By octet. Apart from each other, in typed arrays: a block of a taken call is written in a few hundred ns. */
const codeBits = Uint8Array.from(huffmanCodes.slice(0, endOfString), ({ bits }) => bits);
const codes = Uint32Array.from(huffmanCodes.slice(0, endOfString), ({ code }) => code);

function huffmanBytes(text: string): number {
  let bits = 0;
  for (let at = 0; at < text.length; at++) bits += codeBits[text.charCodeAt(at) & 0xff] as number;
  return (bits + 7) >>> 3;
}

/**
 * Gathers 32 bits and writes them at once; no code is longer than 30.
 *
 * @returns Where the next octet goes.
 */
function writeHuffman(block: Buffer, start: number, text: string): number {
  let at = start;
  /** The bits not written yet, from the most significant one on, and how many there is still room for. */
  let pending = 0;
  let room = 32;
  for (let position = 0; position < text.length; position++) {
    const octet = text.charCodeAt(position) & 0xff;
    const code = codes[octet] as number;
    const left = room - (codeBits[octet] as number);
    if (left > 0) {
      pending |= code << left;
      room = left;
      continue;
    }
    pending |= code >>> -left;
    block[at++] = pending >>> 24;
    block[at++] = pending >>> 16;
    block[at++] = pending >>> 8;
    block[at++] = pending;
    pending = left === 0 ? 0 : code << (32 + left);
    room = 32 + left;
  }
  // Padded with the first bits of EOS, which are ones.
  pending |= 2 ** room - 1;
  for (let left = 32 - room; left > 0; left -= 8) {
    block[at++] = pending >>> 24;
    pending <<= 8;
  }
  return at;
}

function fieldBytes(field: HeaderField): number {
  return field.name.length + field.value.length + fieldOverheadBytes;
}

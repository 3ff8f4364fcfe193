/** An HPACK encoder that uses every representation there is, its dynamic table included, as a generator tells it to. */

import type { Random } from '../../src/harness/random.js';
import type { HeaderField } from '../../src/proxy/http2/hpack.js';
import { huffmanCodes, staticTable } from '../../src/proxy/http2/hpack-tables.js';

/** What this encoder uses of a table that may be larger. */
const maxTableBytes = 4096;

const fieldBytes = ({ name, value }: HeaderField): number => name.length + value.length + 32;

function integer(flags: number, prefixBits: number, value: number): number[] {
  const prefix = 2 ** prefixBits - 1;
  if (value < prefix) return [flags | value];
  const octets = [flags | prefix];
  let rest = value - prefix;
  for (; rest >= 128; rest = Math.floor(rest / 128)) octets.push(128 | (rest % 128));
  octets.push(rest);
  return octets;
}

function huffman(text: string): number[] {
  let bits = '';
  for (const octet of Buffer.from(text, 'latin1')) {
    const code = huffmanCodes[octet];
    if (code !== undefined) bits += code.code.toString(2).padStart(code.bits, '0');
  }
  bits = bits.padEnd(Math.ceil(bits.length / 8) * 8, '1');
  return (bits.match(/.{8}/g) ?? []).map((octet) => Number.parseInt(octet, 2));
}

function string(text: string, coded: boolean): number[] {
  const octets = coded ? huffman(text) : [...Buffer.from(text, 'latin1')];
  return [...integer(coded ? 0x80 : 0, 7, octets.length), ...octets];
}

export class HpackEncoder {
  /** Newest first. */
  readonly #table: HeaderField[] = [];
  #bytes = 0;
  #size = maxTableBytes;
  /** Size updates due: the lowest limit since the last block. */
  #lowest: number | undefined;

  /** The decoder's SETTINGS_HEADER_TABLE_SIZE. */
  setLimit(bytes: number): void {
    const size = Math.min(bytes, maxTableBytes);
    if (size < this.#size || this.#lowest !== undefined) this.#lowest = Math.min(size, this.#lowest ?? size);
    this.#size = this.#lowest === undefined ? Math.min(this.#size, size) : size;
    this.#evict();
  }

  encode(fields: readonly HeaderField[], random: Random): Buffer {
    const octets: number[] = [];
    if (this.#lowest !== undefined) {
      octets.push(...integer(0x20, 5, this.#lowest));
      if (this.#size !== this.#lowest) octets.push(...integer(0x20, 5, this.#size));
      this.#lowest = undefined;
    }
    for (const field of fields) this.#field(field, random, octets);
    return Buffer.from(octets);
  }

  #field(field: HeaderField, random: Random, octets: number[]): void {
    const { name, value } = field;
    const exact = this.#find((entry) => entry.name === name && entry.value === value);
    if (exact > 0 && field.neverIndexed !== true && random.chance(0.9)) {
      octets.push(...integer(0x80, 7, exact));
      return;
    }
    const index = random.chance(0.8) ? this.#find((entry) => entry.name === name) : 0;
    // A table of 0 bytes takes no entry, and yet one may be offered (RFC 7541 section 4.4).
    const incremental = field.neverIndexed !== true && random.chance(this.#size === 0 ? 0.02 : 0.7);
    if (incremental) octets.push(...integer(0x40, 6, index));
    else octets.push(...integer(field.neverIndexed === true ? 0x10 : 0, 4, index));
    if (index === 0) octets.push(...string(name, random.chance(0.5)));
    octets.push(...string(value, random.chance(0.5)));
    if (incremental) this.#add(field);
  }

  #find(matches: (entry: HeaderField) => boolean): number {
    const dynamic = this.#table.findIndex(matches);
    if (dynamic >= 0) return staticTable.length + 1 + dynamic;
    return staticTable.findIndex(([name, value]) => matches({ name, value })) + 1;
  }

  #add(field: HeaderField): void {
    this.#table.unshift(field);
    this.#bytes += fieldBytes(field);
    this.#evict();
  }

  #evict(): void {
    while (this.#bytes > this.#size) {
      const oldest = this.#table.pop();
      if (oldest === undefined) return;
      this.#bytes -= fieldBytes(oldest);
    }
  }
}

/** Ids and times as runtimes give them. */
import { randomBytes } from 'node:crypto';

let latest = 0n;

/** Nanoseconds since 1970 in decimal, as runtimes stamp; each is later than the one before. */
export function timestamp(): string {
  const now = BigInt(Date.now()) * 1_000_000n;
  latest = now > latest ? now : latest + 1n;
  return String(latest);
}

export function newId(): string {
  return randomBytes(32).toString('hex');
}

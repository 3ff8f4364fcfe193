/**
 * Whether what was changed does well: looked at each second until it has been so three times in a row, its time is over, or it is certain
 * that it will not. Knows what a Holdfast looks like that is lost, and nothing of what was changed.
 */
import { type Machine, pause } from './machine.js';
import { paths } from './paths.js';
import { unitState } from './systemctl.js';

/** So often in a row all has to be well. */
const wellInARow = 3;
const lookEachMs = 1_000;

export interface Seen {
  /** undefined: all is well. */
  readonly trouble: string | undefined;
  /** It will not pass by itself. */
  readonly isCertain: boolean;
  /** Of those runs of units that were looked at; another one after each start. */
  readonly invocation: string;
}

/** @returns undefined once it does well, else what is wrong. */
export async function waitUntilWell(
  machine: Machine,
  look: () => Promise<Seen>,
  goesOn: () => boolean,
): Promise<string | undefined> {
  let last: Seen = { trouble: 'nothing was seen of it', isCertain: false, invocation: '' };
  for (let well = 0; goesOn(); ) {
    await pause(machine, lookEachMs);
    const seen = await look();
    if (seen.trouble !== undefined) well = 0;
    else well = well === 0 || seen.invocation === last.invocation ? well + 1 : 1;
    if (well >= wellInARow) return undefined;
    last = seen;
    if (seen.isCertain) break;
  }
  return last.trouble ?? 'it was not well for long enough';
}

/**
 * Looks at Holdfast's own units, again and again. It is lost once it is bypassed: it has failed three times, or does not understand its configuration. A service that has failed,
 * or a socket on which nobody listens, may be so for a moment between two starts.
 */
export function holdfastWatch(machine: Machine): () => Promise<Seen> {
  let before: string | undefined;
  return async () => {
    const bypassed = machine.files.text(paths.bypassed);
    const service = await unitState(machine, 'holdfast.service', 'ActiveState', 'Result', 'InvocationID');
    const socket = await unitState(machine, 'holdfast.socket', 'ActiveState', 'LoadState');
    const invocation = service.InvocationID;
    if (bypassed !== undefined) {
      return { trouble: `Holdfast is bypassed: ${bypassed.trim()}`, isCertain: true, invocation };
    }
    let trouble: string | undefined;
    if (service.ActiveState === 'failed') trouble = `holdfast.service has failed (${service.Result})`;
    else if (socket.LoadState === 'loaded' && ['failed', 'inactive'].includes(socket.ActiveState)) {
      trouble = `holdfast.socket is ${socket.ActiveState}: nobody listens`;
    }
    const isCertain = trouble !== undefined && trouble === before;
    before = trouble;
    return { trouble, isCertain, invocation };
  };
}

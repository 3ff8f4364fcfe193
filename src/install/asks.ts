/** How a node is asked whether it does well: its sockets, its kubelet and Holdfast's own counts. A test brings its own. */
import { type AskVersion, criVersion } from './cri-version.js';
import { listsThrough } from './holdfast-calls.js';
import { type AskHealthz, askHealthz } from './kubelet-health.js';
import type { Machine } from './machine.js';

export interface Asks {
  readonly version: AskVersion;
  readonly healthz: AskHealthz;
  /** How many lists came through Holdfast; undefined where it does not say. */
  readonly lists: (machine: Machine) => Promise<number | undefined>;
}

export const nodeAsks: Asks = { version: criVersion, healthz: askHealthz, lists: listsThrough };

/** The node that is worked on: its files, its commands and its time. Tests bring their own. */
import { execFile } from 'node:child_process';
import { type Clock, systemClock } from '../clock.js';
import { NodeFiles } from './node-files.js';

export interface Ran {
  /** Exit code; 127 where there is no such program, 124 where it took too long. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program of the node to its end; never rejects. */
export type Run = (program: string, args: readonly string[]) => Promise<Ran>;

export interface Machine {
  readonly files: NodeFiles;
  readonly run: Run;
  readonly clock: Clock;
  /** The time of day. */
  readonly date: () => Date;
}

const commandTimeoutMs = 90_000;
/** Where a service or a container may have no PATH at all. */
const searchPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/**
 * @param root `/`. Else commands run by chroot(8) there: a container has the node's root mounted with all that is mounted below it, has
 * CAP_SYS_CHROOT, and is in the node's process ids, since systemctl gives up on a systemd whose process it cannot see.
 */
export function machineAt(root: string): Machine {
  const files = new NodeFiles(root);
  const isOwn = files.root === '/';
  const prefix = isOwn ? [] : ['chroot', files.root];
  // systemctl does nothing where it finds itself in a chroot that is not the root of the first process.
  const ignoreChroot = isOwn ? {} : { SYSTEMD_IGNORE_CHROOT: '1' };
  const run: Run = (program, args) => {
    const [command = program, ...rest] = [...prefix, program, ...args];
    const env = { ...process.env, ...ignoreChroot, PATH: searchPath, LC_ALL: 'C', TZ: 'UTC' };
    return new Promise((resolve) => {
      execFile(command, rest, { env, timeout: commandTimeoutMs, maxBuffer: 16_777_216 }, (error, stdout, stderr) => {
        resolve({ code: codeOf(error), stdout, stderr: stderr || (error?.message ?? '') });
      });
    });
  };
  return { files, run, clock: systemClock, date: () => new Date() };
}

function codeOf(error: (Error & { code?: unknown; killed?: boolean }) | null): number {
  if (error === null) return 0;
  if (typeof error.code === 'number') return error.code;
  return error.code === 'ENOENT' ? 127 : error.killed === true ? 124 : 1;
}

/** Waits on the machine's clock. */
export function pause({ clock }: Pick<Machine, 'clock'>, delayMs: number): Promise<void> {
  return new Promise((resolve) => {
    clock.after(delayMs, resolve);
  });
}

/** What a command said, as one line, for whoever has to act on its failure. */
export function complaint({ code, stdout, stderr }: Ran): string {
  const said = (stderr.trim() || stdout.trim()).split('\n').slice(-3).join(' ').slice(0, 400);
  return said === '' ? `it ended with ${code}` : said;
}

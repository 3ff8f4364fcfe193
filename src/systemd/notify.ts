/**
 * Tells systemd how its service is (sd_notify(3)), through `systemd-notify`: Node cannot send datagrams over a unix socket. Such a
 * child is not the service's main process, so the unit needs NotifyAccess=all. Each costs some 30 ms of CPU time.
 */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import type { Logger } from 'pino';

/** Where systemd is told something, and how often it wants to be. */
interface NotifySettings {
  /** Path or abstract name of its socket. */
  readonly socket: string;
  /** It ends the process that says nothing for this long, in ms; undefined: it does not. */
  readonly watchdogMs: number | undefined;
}

/** @returns When it has been told, or could not be; never rejects. One message goes after the other. */
export type Notify = (...assignments: readonly string[]) => Promise<void>;

const variables = ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID'] as const;

/**
 * Takes the variables out of the environment, so that no child speaks for this process.
 *
 * @param pid Of this process; a watchdog may be meant for another one. Source: sd_watchdog_enabled(3).
 * @returns undefined where nobody wants to be told.
 */
export function takeNotifySettings(env: Record<string, string | undefined>, pid: number): NotifySettings | undefined {
  const [socket, usec, forPid] = variables.map((name) => env[name]);
  for (const name of variables) delete env[name];
  if (!socket) return undefined;
  const isOurs = forPid === undefined || forPid === String(pid);
  const watchdogMs = Number(usec) / 1000;
  return { socket, watchdogMs: isOurs && watchdogMs > 0 ? watchdogMs : undefined };
}

/** @param program Run with the assignments. */
export function systemdNotify(socket: string, log: Logger, program = 'systemd-notify'): Notify {
  const env = { PATH: process.env.PATH, NOTIFY_SOCKET: socket };
  let last: Promise<void> = Promise.resolve();
  let isBroken = false;
  return (...assignments) => {
    last = last.then(async () => {
      try {
        await promisify(execFile)(program, assignments, { env });
        isBroken = false;
      } catch (error) {
        if (!isBroken) log.error({ error: String(error), assignments }, 'systemd cannot be told');
        isBroken = true;
      }
    });
    return last;
  };
}

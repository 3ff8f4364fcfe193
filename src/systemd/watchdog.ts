/**
 * Keeps systemd's watchdog quiet while this process does its work, and says in the log and in the unit's status when it does not. A
 * process that has hung says nothing any more, and systemd ends it.
 */
import type { Logger } from 'pino';
import type { Clock } from '../clock.js';
import type { Health } from './health.js';
import type { Notify } from './notify.js';

export interface WatchdogDeps {
  readonly clock: Clock;
  readonly log: Logger;
  readonly notify: Notify;
  /** @param limitMs How long it may take. */
  look(limitMs: number): Promise<Health>;
}

/** Of the watchdog's time. When a look has found the process stuck there is time left for another one. */
const everyPart = 1 / 2;
const limitPart = 1 / 5;
const againPart = 1 / 20;

const statusOf: Readonly<Record<Health, string>> = {
  serves: 'serving',
  'runtime silent': 'serving; the runtime does not answer, calls wait for it',
  'not reached': 'serving those who are connected; nobody reaches the socket: restart holdfast.socket',
  stuck: 'does not answer its own call; the runtime does',
};

/**
 * @param watchdogMs After so much silence systemd ends this process.
 * @returns Stops it, and with it all signs of life.
 */
export function feedWatchdog(watchdogMs: number, { clock, log, notify, look }: WatchdogDeps): () => void {
  let isStopped = false;
  let last: Health = 'serves';
  let cancel = () => {};
  const lookAfter = (delayMs: number) => {
    cancel = clock.after(delayMs, () => void lookNow());
  };
  const lookNow = async () => {
    const beganMs = clock.now();
    const health = await look(watchdogMs * limitPart);
    if (isStopped) return;
    const news = health === last ? [] : [`STATUS=${statusOf[health]}`];
    if (health !== last) note(log, health);
    last = health;
    if (health !== 'stuck') void notify('WATCHDOG=1', ...news);
    else if (news.length > 0) void notify(...news);
    const leastMs = watchdogMs * againPart;
    const tookMs = clock.now() - beganMs;
    lookAfter(health === 'stuck' ? leastMs : Math.max(leastMs, watchdogMs * everyPart - tookMs));
  };
  lookAfter(watchdogMs * everyPart);
  return () => {
    isStopped = true;
    cancel();
  };
}

function note(log: Logger, health: Health): void {
  if (health === 'serves') log.info('its own call is answered again');
  else if (health === 'runtime silent') log.warn('its own call is not answered, nor is one to the runtime');
  else if (health === 'not reached') log.error('nobody reaches the listening socket: its file was removed or replaced');
  else log.error('its own call is not answered, one to the runtime is: the watchdog will end this process');
}

/**
 * What undoes a change of the node unless it is confirmed, whatever becomes of the process that made it: a shell script, a unit that
 * runs it at boot, and a timer. Knows neither what is changed nor what the script does.
 *
 * Three files say where a change stands: `pending` from before its first step until it is confirmed or undone (whoever renames it has
 * decided), `undoing` while the script is at work or was in vain, `undone` when it is through.
 */
import { complaint, type Machine, pause } from './machine.js';
import { paths } from './paths.js';
import { Refusal } from './refusal.js';
import { systemctl, unitState } from './systemctl.js';

export interface WayBack {
  /** Runs the script, at boot and by its timer. */
  readonly unit: string;
  readonly timer: string;
  readonly script: string;
  readonly pending: string;
  readonly undoing: string;
  readonly undone: string;
}

/** The script itself: some files, and a unit that starts. */
const undoneWithinMs = 90_000;
const lookEachMs = 250;

export interface Armed {
  /** Text of the script. */
  readonly script: string;
  /** Text of the unit. */
  readonly unit: string;
  /** What `pending` says. */
  readonly text: string;
  readonly withinMs: number;
}

/** @throws {Refusal} There is no way back, and nothing is left of it. */
export async function arm(machine: Machine, way: WayBack, armed: Armed): Promise<void> {
  const { files } = machine;
  files.remove(way.undone);
  files.write(way.script, armed.script, 0o700, true);
  files.write(`${paths.units}/${way.unit}`, armed.unit, 0o644, true);
  await systemctl(machine, 'daemon-reload');
  await systemctl(machine, 'enable', way.unit);
  files.write(way.pending, `${armed.text}\n`);
  try {
    await armTimer(machine, way, armed.withinMs);
  } catch (error) {
    files.remove(way.pending);
    await disarm(machine, way);
    throw error;
  }
}

/** @throws {Refusal} It cannot be armed. */
export async function armTimer(machine: Machine, { unit, timer }: WayBack, withinMs: number): Promise<void> {
  await machine.run('systemctl', ['stop', timer]);
  const seconds = Math.ceil(withinMs / 1000);
  const args = [`--on-active=${seconds}s`, '--timer-property=AccuracySec=100ms', `--unit=${unit}`];
  const ran = await machine.run('systemd-run', args);
  const { ActiveState } = await unitState(machine, timer, 'ActiveState');
  if (ran.code !== 0 || ActiveState !== 'active') {
    throw new Refusal(
      `the timer that would take it back cannot be armed: ${complaint(ran)}`,
      'without a way back nothing is changed; nothing was',
    );
  }
}

/** @returns Whether the change is confirmed: the script has not begun, and will not. */
export function claim({ files }: Machine, { pending }: WayBack): boolean {
  const confirmed = `${pending}-no-more`;
  try {
    files.rename(pending, confirmed);
    files.remove(confirmed);
    return true;
  } catch {
    return false;
  }
}

/**
 * What tries a change again and again would otherwise restart a service each time.
 *
 * @param undoneAt What was written when it was undone; one that is still to come, since a clock was wrong, counts for nothing.
 * @returns Until when it is not tried again; undefined: it may be.
 */
export function pauseEnds(
  { date }: Pick<Machine, 'date'>,
  undoneAt: string | undefined,
  retryAfterMs: number,
): string | undefined {
  const [since, now] = [Date.parse(undoneAt ?? ''), date().getTime()];
  return since <= now && now < since + retryAfterMs ? new Date(since + retryAfterMs).toISOString() : undefined;
}

/** @returns Whether the change waits to be confirmed or undone. */
export function isOpen({ files }: Pick<Machine, 'files'>, { pending, undoing }: WayBack): boolean {
  return files.has(pending) || files.has(undoing);
}

/**
 * Does what the timer would do, unless it has.
 *
 * @param isLeft Whether something is still to be undone after the timer has undone what was there by then.
 * @returns What went wrong, and what to do; undefined: all is undone and nothing is armed any more.
 */
export async function undo(machine: Machine, way: WayBack, isLeft: () => boolean): Promise<string | undefined> {
  const { files, clock } = machine;
  await machine.run('systemctl', ['stop', way.timer]);
  const until = clock.now() + undoneWithinMs;
  const isAtWork = async () => (await unitState(machine, way.unit, 'ActiveState')).ActiveState === 'activating';
  while (clock.now() < until && (await isAtWork())) await pause(machine, lookEachMs);
  if (isOpen(machine, way) || !files.has(way.undone) || isLeft()) {
    const open = [way.pending, way.undoing].filter((mark) => files.has(mark));
    if (!files.has(way.script)) return `${way.script} is gone; see to it, then remove ${open.join(', ')}`;
    if (!isOpen(machine, way)) files.write(way.pending, `${machine.date().toISOString()}\n`);
    const ran = await machine.run('/bin/sh', [way.script]);
    if (ran.code !== 0) return `${complaint(ran)}: run /bin/sh ${way.script} by hand`;
  }
  await disarm(machine, way);
  return undefined;
}

/** Takes the timer and its unit away; harmless where they are not there. */
export async function disarm(machine: Machine, { unit, timer, script }: WayBack): Promise<void> {
  const { files, run } = machine;
  await run('systemctl', ['stop', timer]);
  if (!files.has(`${paths.units}/${unit}`)) return;
  await run('systemctl', ['disable', unit]);
  files.remove(`${paths.units}/${unit}`);
  files.remove(script);
  await run('systemctl', ['daemon-reload']);
}

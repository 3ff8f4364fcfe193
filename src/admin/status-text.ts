/** `holdfast status` as text of at most 100 columns. */
import type { ReportedCreation } from '../proxy/creation-report.js';
import type { Bypass } from './client.js';
import type { Summary } from './routes.js';
import type { Look } from './status.js';

const columns = 100;
const indent = '    ';
const podColumns = 50;

/** A newer Holdfast may know of others. */
const things: Readonly<Record<string, string>> = { podSandbox: 'pod sandbox', container: 'container', start: 'start' };

export function statusText({ summary, shown, bypass, problem }: Look): string {
  const lines: string[] = [];
  if (bypass !== undefined) lines.push(...wrapped(bypassText(bypass, summary !== undefined), ''));
  if (summary === undefined) {
    if (bypass === undefined && problem !== undefined) lines.push(...wrapped(problem, ''));
    return joined(lines);
  }
  lines.push(...summaryLines(summary));
  if (problem !== undefined) lines.push('', ...wrapped(problem, ''));
  else if (shown.length === 0) lines.push('', 'Nothing is queued, running, held or stuck.');
  else lines.push('', heading, ...shown.flatMap((creation) => creationLines(creation)));
  return joined(lines);
}

function bypassText({ since, why }: Bypass, isServing: boolean): string {
  const when = since === '' ? '' : ` since ${since}`;
  const reason = why === '' ? '' : `: ${why}`;
  if (isServing)
    return `BYPASSED${when} says the mark beside the socket${reason}. Holdfast answers all the same: it may be on its way back.`;
  const advice = why.endsWith(', exited 2')
    ? ' Exit code 2: it does not understand its configuration; holdfast serve --dry-run --config /etc/holdfast.yaml or journalctl -u holdfast.service says what of it.'
    : '';
  return `BYPASSED${when}${reason}. The kubelet talks to the runtime without Holdfast: this node is as if there were none.${advice}`;
}

function summaryLines(summary: Summary): string[] {
  const { version, uptimeMs, connections, runtimeSilence, kubelet, admission } = summary;
  const { limit, inFlight, hung, queued, pressurePercent } = admission;
  const inQueue = Object.entries(queued).filter(([, number]) => number > 0);
  const total = inQueue.reduce((sum, [, number]) => sum + number, 0);
  const classes = inQueue.map(([name, number]) => `${number} ${name}`).join(', ');
  const pressure = Object.entries(pressurePercent).map(([name, percent]) => `${name} ${Math.round(percent)} %`);
  const lists = kubelet.lists.lastAgoMs === undefined ? 'never' : `${timeText(kubelet.lists.lastAgoMs)} ago`;
  const asked = kubelet.status.lastAgoMs === undefined ? 'never' : `${timeText(kubelet.status.lastAgoMs)} ago`;
  return [
    `Holdfast ${version}, up ${timeText(uptimeMs)}, ${connections} connection${connections === 1 ? '' : 's'}`,
    ...wrapped(runtimeSilence === null ? 'The runtime answers.' : `RUNTIME: ${runtimeSilence}`, ''),
    `A kubelet: last list ${lists}, last status ${asked}`,
    ...wrapped(
      `Admission: limit ${limit ?? 'none'}, ${inFlight} in flight, ${hung} hang, ${total} queued${classes === '' ? '' : ` (${classes})`}`,
      '',
    ),
    ...(pressure.length === 0 ? [] : [`Pressure: ${pressure.join(', ')}`]),
  ];
}

const heading = `  ${'POD'.padEnd(podColumns)} ${'WHAT'.padEnd(14)} ${'STATE'.padEnd(18)} SINCE   WAIT`;

function creationLines(creation: ReportedCreation): string[] {
  const { kind, container, attempt, waiters, stuck, stateForMs, waitsFor, next, queue, lastError, reserved } = creation;
  const pod = creation.pod === undefined ? `? ${creation.id ?? ''}` : `${creation.namespace ?? '?'}/${creation.pod}`;
  const name = container === undefined ? pod : `${pod}/${container}`;
  const number = attempt === undefined || attempt === 0 ? '' : ` #${attempt}`;
  const row = [
    `${stuck ? '!' : ' '} ${cut(name, podColumns).padEnd(podColumns)}`,
    cut(`${things[kind] ?? kind}${number}`, 14).padEnd(14),
    stateText(creation).padEnd(18),
    timeText(stateForMs).padEnd(7),
    waiters,
  ].join(' ');
  const more = [
    ...(waitsFor === undefined ? [] : [asTold(waitsFor)]),
    ...(queue === undefined
      ? []
      : [`place: ${queue.before} before it, class ${queue.class}, in the queue for ${timeText(queue.forMs)}`]),
    ...(creation.timesGivenUp === undefined ? [] : [`given up ${creation.timesGivenUp} times and made anew`]),
    ...(reserved?.remedy === undefined || waitsFor?.includes(reserved.remedy) === true
      ? []
      : [`what to do: ${reserved.remedy}`]),
    ...(lastError === undefined ? [] : [`last error: ${lastError}`]),
    ...(creation.id === undefined ? [] : [`id: ${creation.id}`]),
    `next: ${next}`,
  ];
  return [row, ...more.flatMap((text) => wrapped(text, indent))];
}

function stateText({ state, hungForMs, failures, reserved, waitsFor }: ReportedCreation): string {
  if (reserved?.wedged === true) return 'name reserved';
  if (hungForMs !== undefined) return `${state}, hangs`;
  if (state !== 'queued' || waitsFor === undefined) return state;
  if (reserved !== undefined) return 'name reserved';
  if (failures !== undefined && failures.nextInMs > 0) return 'paused';
  return / has been queued for /.test(waitsFor) ? state : 'waiting';
}

/** What a waiter is told, without what is for the waiter alone. */
function asTold(text: string): string {
  return text.replace(/^holdfast: /, '').replace(/[;,] ask again$/, '');
}

/** As people say it: the two largest units. */
export function timeText(ms: number): string {
  const s = Math.round(ms / 1000);
  if (s < 120) return `${s} s`;
  const minutes = Math.floor(s / 60);
  if (minutes < 120) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h` : `${Math.floor(hours / 24)} d`;
}

function cut(text: string, length: number): string {
  return text.length <= length ? text : `${text.slice(0, length - 1)}…`;
}

/** Lines that fit, each behind the indent. A word that is longer than a line is broken. */
function wrapped(text: string, before: string): string[] {
  const room = columns - before.length;
  const lines: string[] = [];
  let line = '';
  // What the runtime said may have any characters in it, such as those that move a terminal's cursor.
  const words = text
    .replace(/[\p{C}\s]+/gu, ' ')
    .trim()
    .split(' ');
  for (const word of words.flatMap((each) => each.match(new RegExp(`.{1,${room - 2}}`, 'gu')) ?? [])) {
    if (line !== '' && line.length + 1 + word.length > room - (lines.length > 0 ? 2 : 0)) {
      lines.push(line);
      line = word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  if (line !== '') lines.push(line);
  return lines.map((each, index) => `${before}${index > 0 && before !== '' ? '  ' : ''}${each}`);
}

function joined(lines: readonly string[]): string {
  return lines.length === 0 ? '' : `${lines.join('\n')}\n`;
}

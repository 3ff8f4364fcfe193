import t from 'tap';
import { Progress, type ProgressStream } from '../../../src/harness/report/progress.js';
import { ManualClock } from '../../support/manual-clock.js';

/** A terminal as far as it is used: CR, LF, cursor up, erase to the end of the line and of the screen. */
class Terminal implements ProgressStream {
  readonly isTTY = true;
  readonly columns: number;
  readonly rows: number;
  writes = 0;
  lines = [''];
  cursor = { row: 0, column: 0 };

  constructor(columns = 80, rows = 24) {
    this.columns = columns;
    this.rows = rows;
  }

  write(text: string): void {
    this.writes++;
    for (const [part] of text.replaceAll('\x1b', '⎋').matchAll(/⎋\[\d*[A-Z]|[\s\S]/gu)) this.#take(part);
  }

  #take(part: string): void {
    const { row, column } = this.cursor;
    const line = this.lines[row] ?? '';
    if (part === '\r') this.cursor.column = 0;
    else if (part === '\n') {
      this.cursor = { row: row + 1, column: 0 };
      this.lines[row + 1] ??= '';
    } else if (part === '⎋[K') this.lines[row] = line.slice(0, column);
    else if (part === '⎋[J') {
      this.lines = [...this.lines.slice(0, row), line.slice(0, column)];
    } else if (/^⎋\[\d+A$/.test(part)) this.cursor.row = Math.max(0, row - Number.parseInt(part.slice(2), 10));
    else if (part.length > 2) throw new Error(`unknown sequence ${JSON.stringify(part)}`);
    else {
      this.lines[row] = line.slice(0, column).padEnd(column) + part + line.slice(column + 1);
      this.cursor.column = column + 1;
    }
  }
}

const at = (running: number, elapsedMs: number) => ({ running, pods: 20, elapsedMs, watchMs: 60_000 });
const bar = (filled: number) => '█'.repeat(filled) + '░'.repeat(24 - filled);

t.test('on a terminal each arm has a line that is drawn again', async (t) => {
  const [terminal, clock] = [new Terminal(), new ManualClock()];
  terminal.write('$ bench\n');
  const progress = new Progress(terminal, clock);
  progress.update('direct', at(0, 1_000));
  await clock.advance(100);
  progress.update('holdfast', at(5, 1_000));
  await clock.advance(100);
  progress.update('direct', at(20, 2_500));
  t.strictSame(terminal.lines, [
    '$ bench',
    `direct    ${bar(24)}  20 of 20 pods run, 2.5 s of 60 s`,
    `holdfast  ${bar(6)}  5 of 20 pods run, 1.0 s of 60 s`,
    '',
  ]);
  t.strictSame(terminal.cursor, { row: 3, column: 0 });
});

t.test('it is drawn at most ten times a second, the latest always', async (t) => {
  const [terminal, clock] = [new Terminal(), new ManualClock()];
  const progress = new Progress(terminal, clock);
  for (let running = 0; running < 20; running++) progress.update('direct', at(running, 50));
  t.equal(terminal.writes, 1);
  await clock.advance(99);
  t.equal(terminal.writes, 1);
  await clock.advance(1);
  t.equal(terminal.writes, 2);
  t.match(terminal.lines[0], /19 of 20 pods run/);
});

t.test('what is stopped shows the latest, leaves the cursor below, and is silent from then on', async (t) => {
  const [terminal, clock] = [new Terminal(), new ManualClock()];
  const progress = new Progress(terminal, clock);
  progress.update('direct', at(0, 0));
  progress.update('direct', at(3, 50));
  terminal.write('^C');
  progress.stop();
  const { writes } = terminal;
  progress.update('direct', at(4, 100));
  progress.end('direct');
  progress.stop();
  await clock.advance(1_000);
  t.equal(terminal.writes, writes);
  t.equal(clock.pending, 0);
  t.strictSame(terminal.lines, [`direct  ${bar(3)}  3 of 20 pods run, 0.1 s of 60 s`, ''], 'nor is the ^C left');
  t.strictSame(terminal.cursor, { row: 1, column: 0 });
});

t.test('lines are not wrapped, and no more than the screen has', async (t) => {
  const terminal = new Terminal(40, 4);
  const progress = new Progress(terminal, new ManualClock());
  for (let arm = 0; arm < 9; arm++) progress.update(`arm-${arm}`, at(arm, 0));
  progress.stop();
  t.strictSame(
    terminal.lines.map((line) => line.slice(0, 5)),
    ['arm-6', 'arm-7', 'arm-8', ''],
  );
  for (const line of terminal.lines) t.ok(line.length < 40);
});

t.test('elsewhere a plain line says how an arm ended', async (t) => {
  let text = '';
  const clock = new ManualClock();
  const progress = new Progress({ write: (part) => (text += part) }, clock);
  progress.update('direct', at(2, 1_000));
  progress.update('direct', at(14, 60_000));
  await clock.advance(1_000);
  t.equal(text, '');
  progress.end('direct');
  progress.end('never told');
  progress.update('holdfast', at(3, 2_000));
  progress.stop();
  t.equal(text, 'direct: 14 of 20 pods run, 60.0 s of 60 s\n');
});

t.test('names cannot move the cursor', async (t) => {
  const terminal = new Terminal();
  const progress = new Progress(terminal, new ManualClock());
  progress.update('a\x1b[5A\nb', { running: 0, pods: 0, elapsedMs: 0, watchMs: 0 });
  t.match(terminal.lines[0], /^a \[5A b {2}░{24} {2}0 of 0 pods run/);
  t.equal(terminal.lines.length, 2);
});

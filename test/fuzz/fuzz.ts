/**
 * Fuzzes the stream router: `npm run fuzz -- [--minutes N | --seconds N | --cases N] [--seed N]`. The nth case has the
 * seed `--seed` + n. The first that breaks a rule is made small, kept in `regressions/`, and ends the run with 1.
 */
import { parseArgs } from 'node:util';
import v8 from 'node:v8';
import vm from 'node:vm';
import { newCase, type Outcome, replay, runCase } from './case.js';
import { leaveNothingToChance } from './determinism.js';
import { writeRegression } from './regression.js';
import { shrink } from './shrink.js';
import { Watchdog } from './watchdog.js';
import { strayErrors } from './world.js';

const caseCpuMs = 2000;
const reportEveryMs = 10_000;
/** Cases after which the heap has taken in all code and tables. */
const warmUpCases = 3000;
/** What the heap may grow by from then on; a case leaves nothing behind. */
const leakBytes = 16 * 1024 * 1024;

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

function heapBytes(): number {
  v8.setFlagsFromString('--expose-gc');
  const collect = vm.runInNewContext('gc') as () => void;
  collect();
  return process.memoryUsage().heapUsed;
}

class Tally {
  readonly #events = new Map<string, number>();
  readonly #startMs = performance.now();
  cases = 0;

  add({ events }: Outcome): void {
    this.cases += 1;
    for (const [event, count] of events) this.#events.set(event, (this.#events.get(event) ?? 0) + count);
  }

  get line(): string {
    const seconds = (performance.now() - this.#startMs) / 1000;
    const of = (event: string) => this.#events.get(event) ?? 0;
    const violations = [...this.#events.keys()].filter((event) => event.startsWith('violation')).length;
    return [
      `${Math.round(seconds)} s: ${this.cases} cases, ${Math.round(this.cases / seconds)}/s`,
      `${of('both peers right')} with both peers right`,
      `${of('calls taken')} calls taken, ${of('calls delivered')} delivered`,
      `${of('DATA held back')} held back`,
      `${violations} sorts of violation`,
    ].join(', ');
  }

  get table(): string {
    const events = [...this.#events].sort(([a], [b]) => (a < b ? -1 : 1));
    return events.map(([event, count]) => `${String(count).padStart(9)} ${event}`).join('\n');
  }
}

async function report(seed: number, rule: string, detail: string): Promise<void> {
  print(`seed ${seed}: ${rule}: ${detail}`);
  const { smallest, outcome } = await shrink(newCase(seed), rule);
  print(`${smallest.operations.length} operations of it suffice: ${outcome.breach?.detail}`);
  const again = await replay(outcome.setting, outcome.steps);
  print(
    `kept in ${writeRegression(seed, rule, outcome)}${again.breach?.rule === rule ? '' : ', which needs its peers'}`,
  );
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      minutes: { type: 'string' },
      seconds: { type: 'string' },
      cases: { type: 'string' },
      seed: { type: 'string' },
    },
  });
  const first = values.seed === undefined ? Math.floor(Math.random() * 2 ** 32) : Number(values.seed);
  const maxCases = Number(values.cases ?? Number.POSITIVE_INFINITY);
  const limitMs = 1000 * (values.seconds === undefined ? 60 * Number(values.minutes ?? 1) : Number(values.seconds));
  for (const event of ['uncaughtException', 'unhandledRejection']) {
    process.on(event, (error: unknown) => strayErrors.push(error));
  }
  leaveNothingToChance();
  const watchdog = new Watchdog(caseCpuMs);
  const tally = new Tally();
  print(`first seed ${first}`);
  const endMs = performance.now() + limitMs;
  let reportMs = performance.now() + reportEveryMs;
  let heapAtFirst: number | undefined;
  while (tally.cases < maxCases && performance.now() < endMs) {
    const seed = (first + tally.cases) >>> 0;
    watchdog.begin(seed);
    const outcome = await runCase(newCase(seed));
    tally.add(outcome);
    if (outcome.breach !== undefined) {
      await watchdog.stop();
      await report(seed, outcome.breach.rule, outcome.breach.detail);
      return 1;
    }
    if (performance.now() < reportMs) continue;
    reportMs += reportEveryMs;
    print(tally.line);
    if (tally.cases < warmUpCases) continue;
    const heap = heapBytes();
    heapAtFirst ??= heap;
    if (heap - heapAtFirst > leakBytes) {
      print(`the heap has grown from ${heapAtFirst} to ${heap} bytes: something is left of every case`);
      return 1;
    }
  }
  await watchdog.stop();
  print(`${tally.line}\n${tally.table}`);
  if (heapAtFirst !== undefined)
    print(`heap after ${warmUpCases} cases ${heapAtFirst} bytes, at the end ${heapBytes()}`);
  return 0;
}

try {
  process.exitCode = await main();
} catch (error) {
  // Whoever listens for errors that nobody catches would take it for one of a case.
  print(String(error instanceof Error ? error.stack : error));
  process.exitCode = 1;
}

/**
 * `npm run mutate`: breaks the sources, one change at a time, and says which breaks no test notices. Nothing in the working tree
 * changes but `.mutate/`, which holds the results of the last run.
 *
 * Usage: npm run mutate [-- [--survivors] PIECE | SOURCE …]. Without names everything is broken, which takes a night. Ends with
 * 1 where something survived and no reason is written down in equivalent.yaml, or could not be run.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { breaks } from './breaks.js';
import { readEquivalents } from './equivalent.js';
import { idle, judge, type Outcome, scores } from './judge.js';
import { type Piece, pieces, sourcesOf } from './pieces.js';
import { outcomeOf, removal, removalsIn, remove } from './removals.js';
import { runBreaks } from './run-breaks.js';
import { mutate } from './stryker.js';

const byHand = 'breaks';
const keptIn = '.mutate';
const equivalents = readEquivalents();

const { positionals: names, values } = parseArgs({
  allowPositionals: true,
  options: { survivors: { type: 'boolean', default: false } },
});

let isClean = true;
for (const name of names.length === 0 ? [...pieces.map(({ name }) => name), byHand] : names) {
  isClean = (name === byHand ? await runBreaks(breaks, say) : await runPiece(name)) && isClean;
}
process.exitCode = isClean ? 0 : 1;

/** @returns Whether each survivor has a reason. */
async function runPiece(name: string): Promise<boolean> {
  const { piece, sources } = chosen(name);
  const kept = path.join(keptIn, `${piece.name}.json`);
  const beganMs = performance.now();
  const before = readKept(kept);
  const survivors = before.filter(({ file, state }) => state === 'survived' && sources.includes(file));
  const outcomes = values.survivors ? await breakAgain(survivors, piece) : await breakAll(sources, piece);
  const all = merge(before, outcomes, values.survivors ? [] : sources);
  mkdirSync(keptIn, { recursive: true });
  writeFileSync(kept, JSON.stringify(all, null, 1));

  const shown = all.filter(({ file }) => sources.includes(file));
  const verdicts = judge(shown, equivalents);
  for (const { outcome, why } of verdicts)
    say(
      `${why === undefined ? 'SURVIVED' : 'equivalent'} ${described(outcome)}${why === undefined ? '' : `\n  ${why}`}`,
    );
  const notRun = shown.filter(({ state }) => state === 'error');
  for (const outcome of notRun) say(`COULD NOT BE RUN ${described(outcome)}`);
  const idleReasons = idle(shown, equivalents);
  for (const { file, line } of idleReasons) say(`no longer applies: the reason for ${file}: ${line}`);
  const minutes = (performance.now() - beganMs) / 60_000;
  say(`\n${piece.name}: ${outcomes.length} mutants in ${minutes.toFixed(1)} min`);
  say('  %  killed  survived  equivalent  errors  file');
  for (const { file, percent, killed, survived, explained, errors } of scores(shown, verdicts)) {
    const [score, ...counts] = [Math.floor(percent), killed, survived, explained, errors].map(String);
    say(
      `${score?.padStart(3)} ${counts[0]?.padStart(7)} ${counts[1]?.padStart(9)} ${counts[2]?.padStart(11)} ${counts[3]?.padStart(7)}  ${file}`,
    );
  }
  return notRun.length === 0 && idleReasons.length === 0 && verdicts.every(({ why }) => why !== undefined);
}

/** A piece by its name, or a source with the tests of the piece it belongs to. */
function chosen(name: string): { readonly piece: Piece; readonly sources: readonly string[] } {
  for (const piece of pieces) {
    const sources = sourcesOf(piece);
    if (piece.name === name) return { piece, sources };
    if (sources.includes(name)) return { piece, sources: [name] };
  }
  say(`no piece and no source of one: ${name}. Pieces: ${[...pieces.map((piece) => piece.name), byHand].join(', ')}`);
  process.exit(2);
}

function readKept(file: string): readonly Outcome[] {
  return existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : [];
}

async function breakAll(sources: readonly string[], { tests }: Piece): Promise<readonly Outcome[]> {
  const mutants = await mutate(sources, tests);
  return [...mutants, ...(await remove(sources.flatMap(removalsIn), tests, progress))];
}

async function breakAgain(survivors: readonly Outcome[], { tests }: Piece): Promise<readonly Outcome[]> {
  const isRemoval = ({ mutator }: Outcome) => mutator === removal;
  const ranges = survivors.filter((outcome) => !isRemoval(outcome)).map(rangeOf);
  const removals = [...new Set(survivors.map(({ file }) => file))].flatMap(removalsIn).filter((change) => {
    const found = outcomeOf(change, true);
    return survivors.some((outcome) => isRemoval(outcome) && keyOf(outcome) === keyOf(found));
  });
  return [...(ranges.length === 0 ? [] : await mutate(ranges, tests)), ...(await remove(removals, tests, progress))];
}

function progress({ file, line, state }: Outcome): void {
  say(`${state} without ${file}:${line}`);
}

function rangeOf({ file, line, column, endLine, endColumn }: Outcome): string {
  return `${file}:${line}:${column}-${endLine}:${endColumn}`;
}

function keyOf(outcome: Outcome): string {
  return `${rangeOf(outcome)} ${outcome.to}`;
}

/** @param anew Files of which nothing that is kept is true any more. */
function merge(kept: readonly Outcome[], outcomes: readonly Outcome[], anew: readonly string[]): readonly Outcome[] {
  const all = new Map<string, Outcome>();
  for (const outcome of [...kept.filter(({ file }) => !anew.includes(file)), ...outcomes]) {
    all.set(keyOf(outcome), outcome);
  }
  return [...all.values()];
}

function described({ file, line, column, mutator, from, to }: Outcome): string {
  const short = (code: string) => {
    const oneLine = code.replaceAll(/\s+/g, ' ');
    return oneLine.length > 100 ? `${oneLine.slice(0, 99)}…` : oneLine;
  };
  return `${file}:${line}:${column + 1} ${mutator}\n  - ${short(from)}\n  + ${short(to)}`;
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** Runs the breaks that are written by hand and says what came of each. */
import { readFileSync } from 'node:fs';
import type { Break } from './breaks.js';
import { BrokenCopy, type Change } from './copy.js';

/** @returns Whether each was noticed or has a reason, and none is still to be written or does not apply any more. */
export async function runBreaks(breaks: readonly Break[], say: (line: string) => void): Promise<boolean> {
  const copy = new BrokenCopy();
  let isClean = true;
  try {
    const failing = await copy.firstFailing([...new Set(breaks.flatMap(({ change }) => change?.tests ?? []))]);
    if (failing !== undefined) throw new Error(`${failing} fails with nothing broken`);
    for (const one of breaks) {
      const outcome = await outcomeOf(one, copy);
      say(`${outcome}: ${one.claim}${outcome === 'equivalent' ? `\n  ${one.why}` : ''}`);
      isClean &&= outcome === 'killed' || outcome === 'equivalent';
    }
  } finally {
    copy.remove();
  }
  return isClean;
}

async function outcomeOf({ change, why }: Break, copy: BrokenCopy): Promise<string> {
  if (change === undefined) return 'not written yet';
  const found = changeOf(change);
  if (found === undefined) return 'no longer applies';
  if (await copy.notices(found, change.tests)) return 'killed';
  return why === undefined ? 'SURVIVED' : 'equivalent';
}

/** @returns undefined where the text is not there, or more than once. */
function changeOf({ file, text, by }: NonNullable<Break['change']>): Change | undefined {
  const whole = readFileSync(file, 'utf8');
  const start = whole.indexOf(text);
  if (start < 0 || whole.includes(text, start + 1)) return undefined;
  return { file, start, end: start + text.length, to: by };
}

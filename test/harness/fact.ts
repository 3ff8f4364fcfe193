/** Tests that bear the text of a numbered fact of src/harness/kubelet/facts.ts. */
import t, { type Test } from 'tap';
import { type FactNumber, facts } from '../../src/harness/kubelet/facts.js';

const shown = new Set<number>();

export function fact(number: FactNumber, body: (t: Test) => Promise<void>): void {
  shown.add(number);
  t.test(`fact ${number}: ${facts[number]}`, body);
}

/** That this file shows all facts from one number to another, and no others. */
export function eachIsShown(first: number, last = Infinity): void {
  t.test('each fact is shown', async (t) => {
    t.same(
      [...shown],
      Object.keys(facts)
        .map(Number)
        .filter((number) => number >= first && number <= last),
    );
  });
}

/**
 * The router against a model: any plan of streams, settings, windows and cancels comes to the same through it as without it.
 *
 * HOLDFAST_MODEL_RUNS is the number of plans (for long runs, with `tap --timeout=0`); HOLDFAST_MODEL_SEED repeats those of a seed.
 */
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { found } from './model/found.js';
import { forNode } from './model/node-peers.js';
import { anyPlan, type Plan } from './model/plan.js';
import { checkPlan } from './model/run.js';
import { checkOverSockets } from './model/sockets.js';

const { HOLDFAST_MODEL_RUNS: runs, HOLDFAST_MODEL_SEED: seed } = process.env;

/**
 * @param mostMs Where no number of runs is asked for, no further one begins then: a slow machine makes fewer. One that has begun is
 *   brought to its end, since it may be stuck.
 */
async function holds(t: Test, numRuns: number, mostMs: number, check: (plan: Plan) => Promise<void>): Promise<void> {
  const endMs = runs === undefined ? performance.now() + mostMs : Number.POSITIVE_INFINITY;
  let done = 0;
  const property = fc.asyncProperty(anyPlan, async (plan) => {
    if (done > 0 && performance.now() > endMs) return;
    done += 1;
    await check(plan);
  });
  const details = await fc.check(property, { numRuns, ...(seed === undefined ? {} : { seed: Number(seed) }) });
  const reason = details.errorInstance instanceof Error ? details.errorInstance.message : 'failed';
  t.notOk(details.failed, details.failed ? `${reason}\n${fc.defaultReportMessage(details)}` : `${done} plans`);
}

for (const [what, plan] of Object.entries(found)) {
  t.test(what, async (t) => {
    await t.resolves(checkPlan(plan));
  });
}

t.test('any plan comes to the same through a router as without one', async (t) => {
  await holds(t, Number(runs ?? 150), 5000, checkPlan);
});

for (const client of ['frames', 'nghttp2'] as const) {
  for (const backend of ['frames', 'nghttp2'] as const) {
    t.test(`so it does over sockets, with a client on ${client} and a backend on ${backend}`, async (t) => {
      const raw = client === 'frames' && backend === 'frames';
      const check = (plan: Plan): Promise<void> => checkOverSockets(raw ? plan : forNode(plan), { client, backend });
      await holds(t, Math.ceil(Number(runs ?? 150) / 10), 1200, check);
    });
  }
}

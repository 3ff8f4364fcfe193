/** Creations that are given up on a runtime that does not end them for being cancelled. */
import t from 'tap';
import { settle } from '../support/manual-clock.js';
import { Rig } from '../support/rig.js';

const second = 1_000;

t.test('what CRI-O finishes after it was given up is handed over then, however long Holdfast runs', async (t) => {
  const rig = await Rig.start(t, { runtime: { profile: 'crio-store' }, config: { giveUpAfterMs: 60 * second } });
  await rig.podSandbox(rig.pod({ uid: 'first' }));
  await rig.clock.advance(1_000 * second);
  const hold = rig.runtime.hold('runPodSandbox', (name) => name.includes('slow'));
  let id: string | undefined;
  const leave = new AbortController();
  const asked = rig.client.call('RunPodSandbox', rig.pod({ uid: 'slow' }).runPodSandboxRequest(), {
    signal: leave.signal,
  });
  asked.then(
    (answer) => {
      id = answer.pod_sandbox_id;
    },
    () => {},
  );
  await hold.arrived();
  await rig.podSandbox(rig.pod({ uid: 'other' }));
  await rig.clock.advance(60 * second);
  await rig.step('given up', 'podSandbox');
  for (let n = 0; n < 10; n += 1) await settle();
  hold.release();
  for (let n = 0; n < 60 && id === undefined; n += 1) {
    await new Promise((resolve) => setTimeout(resolve, 5));
    await rig.clock.advance(second);
  }
  t.match(id, /./, 'within a minute');
  t.equal(rig.runtime.made.sandboxes.length, 3, 'it is made once');
  leave.abort();
});

import t from 'tap';
import { demoTable } from '../../src/harness/demo-table.js';
import type { PodHistory } from '../../src/harness/kubelet/pod-history.js';

const pod = (events: PodHistory['events']): PodHistory => ({ name: 'web', uid: 'u', events });

t.test('two timelines stand side by side on one scale, the longer one filling its column', async (t) => {
  const table = demoTable(
    {
      title: 'left',
      durationMs: 4_400,
      pods: [
        pod([
          { atMs: 0, phase: 'RunPodSandbox', text: 'RunPodSandbox, attempt 0', error: false },
          { atMs: 1_050, phase: 'waiting', text: `failed: ${'x'.repeat(100)}\n`, error: true },
        ]),
      ],
    },
    {
      title: 'right',
      durationMs: 1_100,
      pods: [
        pod([
          { atMs: 0, phase: 'CreateContainer', text: 'CreateContainer, attempt 0', error: false },
          { atMs: 350, phase: 'StartContainer', text: 'StartContainer', error: false },
          { atMs: 750, phase: 'running', text: 'running', error: false },
        ]),
      ],
    },
  ).split('\n');
  t.equal(table[2], `web     | ssssssssss!${'.'.repeat(33)} | ccctttt====`);
  t.equal(table[4], 'web     |  0.00 s  RunPodSandbox, attempt 0            |  0.00 s  CreateContainer, attempt 0');
  t.match(table[5], /\| {2}1\.05 s {2}! failed: x+\.\.\. \| {2}0\.35 s {2}StartContainer$/);
  t.ok(table.every((row) => row.length <= 110));
});

t.test('a run that ended at once makes an empty table', async (t) => {
  const side = { title: 'left', durationMs: 0, pods: [pod([])] };
  t.equal(demoTable(side, side).split('\n')[2]?.trim(), 'web     |                                              |');
});

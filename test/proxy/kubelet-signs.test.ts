import t from 'tap';
import { KubeletSigns } from '../../src/proxy/kubelet-signs.js';
import { ManualClock } from '../support/manual-clock.js';

t.test('lists and status calls are counted, each with how long ago the last one was', async (t) => {
  const clock = new ManualClock();
  const signs = new KubeletSigns(clock);
  t.same(signs.seen, { status: { calls: 0, lastAgoMs: undefined }, lists: { calls: 0, lastAgoMs: undefined } });
  for (const method of ['ListPodSandbox', 'ListContainers', 'StreamPodSandboxes', 'StreamContainers'])
    signs.note(method);
  await clock.advance(1_000.4);
  signs.note('Status');
  for (const method of ['Version', 'ContainerStatus', 'ListContainerStats']) signs.note(method);
  await clock.advance(500);
  t.same(signs.seen, { status: { calls: 1, lastAgoMs: 500 }, lists: { calls: 4, lastAgoMs: 1_500 } });
});

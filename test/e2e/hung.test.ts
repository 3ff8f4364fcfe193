/** Pods whose network does not come up, through Holdfast to a real containerd: what becomes of them, and of the others. */
import t, { type Test } from 'tap';
import type { PodOptions } from '../support/cri-client.js';
import { type RealContainerd, skipReason as skip, startContainerd } from './support/containerd.js';
import { type Holdfast, startHoldfast } from './support/holdfast.js';
import { until } from './support/until.js';

/** Nothing here takes as long, however busy the machine. */
const patienceMs = 60_000;

async function setUp(t: Test, flags: string[] = []): Promise<{ containerd: RealContainerd; holdfast: Holdfast }> {
  const containerd = await startContainerd(t);
  const listen = `${containerd.directory}/h.sock`;
  return { containerd, holdfast: await startHoldfast(t, { runtime: containerd.socket, listen, flags }) };
}

t.test(
  'rule 15: pods whose CNI ADD hangs keep the others of the node waiting for seconds at most',
  { skip },
  async (t) => {
    const { containerd, holdfast } = await setUp(t, ['--admission', 'fixed', '--max-creations', '2']);
    const run = (name: string, more: Partial<PodOptions> = {}) => {
      const request = containerd.pod({ name, ...more }).runPodSandboxRequest();
      return holdfast.client.call('RunPodSandbox', request, { deadlineMs: patienceMs });
    };
    const hanging = ['hangs-0', 'hangs-1', 'hangs-2', 'hangs-3'];
    for (const name of hanging) {
      containerd.hangCni(name, 'always');
      run(name).catch(() => {});
    }
    await until('two hang', () => containerd.cniAdds() === 2, patienceMs);
    await holdfast.logged(
      'the last of them',
      ({ step, name }) => step === 'queued' && name === hanging.at(-1),
      patienceMs,
    );
    const healthy = run('healthy');
    await holdfast.logged('the healthy one', ({ step, name }) => step === 'queued' && name === 'healthy', patienceMs);
    await run('proxy-0', { annotations: { 'kubernetes.io/config.source': 'file' } });
    await run('dns-0', { namespace: 'kube-system' });
    for (const own of ['proxy-0', 'dns-0']) {
      const at = (step: string) => holdfast.log.findIndex((line) => line.step === step && line.name === own);
      const meanwhile = holdfast.log.slice(at('queued'), at('started')).map(({ step }) => step);
      t.notOk(meanwhile.includes('hangs'), `${own} waited for nothing`);
    }
    await healthy;
    t.equal(containerd.cniAdds(), hanging.length + 3);
  },
);

t.test(
  'a pod sandbox whose CNI ADD hung once is given up and made anew, and its caller gets it',
  { skip },
  async (t) => {
    const { containerd, holdfast } = await setUp(t, ['--give-up-after', '2s', '--give-up-times', '2']);
    containerd.hangCni('hangs-0', 'once');
    const pod = containerd.pod({ name: 'hangs-0' });
    const { pod_sandbox_id } = await holdfast.client.call('RunPodSandbox', pod.runPodSandboxRequest(), {
      deadlineMs: patienceMs,
    });
    const { items } = await containerd.client.call('ListPodSandbox');
    t.match(items, [{ id: pod_sandbox_id, state: 'SANDBOX_READY' }], 'it is there, and nothing else');
    t.equal(items.length, 1);
    t.equal(containerd.cniAdds(), 2);
    t.equal(holdfast.log.filter(({ step }) => step === 'given up').length, 1);
  },
);

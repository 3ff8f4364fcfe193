import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import t, { type Test } from 'tap';
import { readRecord } from '../../src/install/record.js';
import { installUnits } from '../../src/install/units.js';
import { containerd, type FakeNode, installedNode, running } from './fake-node.js';

/** A node with a unit that is as it will be. */
async function ready(t: Test): Promise<FakeNode> {
  const node = await installedNode(t);
  mkdirSync(`${node.folder}/given`);
  writeFileSync(`${node.folder}/given/holdfast.service`, '[Service]\n');
  return node;
}

const units = (node: FakeNode) =>
  installUnits(
    node.machine,
    node.steps,
    {
      runtime: containerd,
      kubeletUnit: 'kubelet.service',
      folder: `${node.folder}/given`,
      kubelet: undefined,
      confirmWithinMs: 20_000,
      retryAfterMs: 0,
    },
    node.asks,
  );

t.test('units that an interrupted run has written are loaded by the next', async (t) => {
  const node = await ready(t);
  node.failing.set('systemctl daemon-reload', { code: 1, stdout: '', stderr: 'killed' });
  await t.rejects(units(node));
  t.equal(node.read('/etc/systemd/system/holdfast.service'), '[Service]\n');
  node.failing.clear();
  node.ran.length = 0;
  await units(node);
  const reloaded = node.ran.indexOf('systemctl daemon-reload');
  t.ok(reloaded >= 0 && reloaded < node.ran.indexOf('systemctl restart holdfast.service'));
  node.ran.length = 0;
  await units(node);
  t.notOk(
    node.ran.some((command) => /reload|restart/.test(command)),
    'and once',
  );
});

t.test('a bypass by hand is left to whoever began it, one after a failure is ended', async (t) => {
  const node = await ready(t);
  node.states.set('holdfast-bypass.service', running);
  node.states.set('holdfast.service', { ...running, ActiveState: 'inactive', SubState: 'dead' });
  node.write('/run/holdfast/bypassed', '2026-01-02T03:04:05Z started by hand\n');
  await t.rejects(units(node), { name: 'Refusal', message: /bypassed by hand: 2026-01-02T03:04:05Z/ });
  t.notOk(node.ran.some((command) => command.startsWith('systemctl start')));

  node.states.set('holdfast.service', { ...running, ActiveState: 'failed', SubState: 'failed' });
  node.onCommand = (command) => {
    if (command === 'systemctl start holdfast.service') node.files.remove('/run/holdfast/bypassed');
  };
  await units(node);
  t.ok(readRecord(node.files)?.startedWith);

  node.write('/run/holdfast/bypassed', '2026-01-02T03:04:05Z holdfast.service failed\n');
  node.ran.length = 0;
  await units(node);
  // In another order systemd closes the socket on the reset, also where no file is new.
  const steps = ['daemon-reload', 'reset-failed holdfast.service', 'start holdfast.service'];
  const at = steps.map((step) => node.ran.lastIndexOf(`systemctl ${step}`));
  t.ok(
    at.every((place, n) => place >= 0 && place > (at[n - 1] ?? -1)),
    at.join(),
  );
});

t.test('a Holdfast that is lost is not waited for until the time is over', async (t) => {
  const node = await ready(t);
  node.answering.delete('/run/holdfast/holdfast.sock');
  node.onCommand = (command) => {
    if (command === 'systemctl restart holdfast.service') node.write('/run/holdfast/bypassed', 'now why');
  };
  await t.rejects(units(node), { name: 'Refusal', message: /bypassed: now why/ });
  t.ok(node.nowMs < 2_000, `after ${node.nowMs} ms`);
});

t.test('a file that cannot be written is named, and leaves nothing behind', async (t) => {
  const node = await ready(t);
  const folder = `${node.folder}/etc`;
  writeFileSync(`${folder}/.x.holdfast-1`, 'of one that was killed');
  mkdirSync(`${folder}/x`);
  t.throws(() => node.files.write('/etc/x', 'text'), { message: /^\/etc\/x cannot be written: EISDIR/ });
  t.notOk(readdirSync(folder).some((name) => name.startsWith('.x.')));
});

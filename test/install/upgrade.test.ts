import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import t, { type Test } from 'tap';
import { type InstallOptions, install } from '../../src/install/install.js';
import { keptIn, rollback, waitsIn } from '../../src/install/rollback-script.js';
import { Steps } from '../../src/install/steps.js';
import { uninstall, usualUninstallStages } from '../../src/install/uninstall.js';
import { pauseEnds } from '../../src/install/way-back.js';
import { type FakeNode, installedNode, running } from './fake-node.js';

const bundle = '/opt/holdfast/lib/holdfast.mjs';
const unit = '/etc/systemd/system/holdfast.service';
const service = 'holdfast.service';
const restart = `systemctl restart ${service}`;
const confirmWithinMs = 60_000;

const given = (node: FakeNode): InstallOptions => ({
  platform: 'kubeadm',
  runtime: undefined,
  kubeletUnit: undefined,
  acceptUnsupported: false,
  stages: ['artifacts', 'units'],
  node: `${node.folder}/given/program`,
  program: `${node.folder}/given/program`,
  units: `${node.folder}/given`,
  confirmWithinMs,
  retryAfterMs: 0,
  config: undefined,
});
const doInstall = (node: FakeNode, more: Partial<InstallOptions> = {}) =>
  install(node.machine, node.steps, { ...given(node), ...more }, node.asks);

/** What is to be installed next: a program that says this version, and a unit that has it in it. */
function give(node: FakeNode, version: string): void {
  writeFileSync(`${node.folder}/given/program`, version);
  writeFileSync(`${node.folder}/given/holdfast.service`, `[Service]\n# ${version}\n`);
}

/** As the timer or the next boot would, and the installer. */
function rollBack(node: FakeNode): void {
  const env = { ...process.env, HOLDFAST_ROOT: node.folder };
  const stubs = 'systemctl() { :; }; sleep() { :; }';
  execFileSync('/bin/sh', ['-c', `${stubs}; . ${node.folder}${rollback.script}`], { env });
  comeUp(node);
}

function comeUp(node: FakeNode): void {
  node.files.remove('/run/holdfast/bypassed');
  node.states.set(service, running);
}

/** Holdfast 1.0.0 runs and the kubelet is behind it. One whose version ends in `broken` fails again and again, and is bypassed. */
async function ready(t: Test): Promise<FakeNode> {
  const node = await installedNode(t);
  mkdirSync(`${node.folder}/given`);
  give(node, '1.0.0');
  await doInstall(node);
  node.states.set('holdfast-rollback.timer', { ActiveState: 'active' });
  node.ran.length = 0;
  node.output = '';
  node.onCommand = (command) => {
    if (command.startsWith('/bin/sh')) rollBack(node);
    if (command !== restart && command !== `systemctl start ${service}`) return;
    comeUp(node);
    if (!node.read(bundle).endsWith('broken')) return;
    node.states.set(service, { ...running, ActiveState: 'failed' });
    node.write('/run/holdfast/bypassed', `2026-01-02T03:04:05Z ${service} failed\n`);
  };
  return node;
}

const isAsBefore = (t: Test, node: FakeNode) => {
  t.equal(node.read(bundle), '1.0.0');
  t.match(node.read(unit), '1.0.0');
  for (const left of [
    rollback.pending,
    rollback.undoing,
    rollback.script,
    `/etc/systemd/system/${rollback.unit}`,
    keptIn,
  ])
    t.notOk(node.files.has(left), left);
};

t.test('an upgrade that does well is confirmed, and leaves nothing that would take it back', async (t) => {
  const node = await ready(t);
  give(node, '2.0.0');
  await doInstall(node);
  t.equal(node.read(bundle), '2.0.0');
  t.match(node.read(unit), '2.0.0');
  t.match(node.output, /confirmed: Holdfast 1\.0\.0 → 2\.0\.0/);
  for (const left of [rollback.pending, rollback.script, `/etc/systemd/system/${rollback.unit}`, keptIn, waitsIn])
    t.notOk(node.files.has(left), left);
  const armed = node.ran.findIndex((command) => command.startsWith('systemd-run --on-active=60s'));
  t.ok(armed >= 0 && armed < node.ran.indexOf(restart));
  t.equal(node.ran.filter((command) => command === restart).length, 1);

  node.ran.length = 0;
  node.output = '';
  await doInstall(node);
  t.notMatch(node.output, /done/);
  t.notOk(
    node.ran.some((command) => /restart|systemd-run/.test(command)),
    'and nothing is restarted by the next',
  );
});

t.test('a new Holdfast that is bypassed is taken back as soon as it is, and says so', async (t) => {
  const node = await ready(t);
  give(node, '2.0.0-broken');
  await t.rejects(doInstall(node), {
    name: 'RevertedError',
    message: /2\.0\.0-broken did not do well \(Holdfast is bypassed: .*taken back: Holdfast 1\.0\.0 is .* and answers/,
  });
  isAsBefore(t, node);
  t.ok(node.nowMs < confirmWithinMs / 2, `after ${node.nowMs} ms`);
  t.match(node.read(rollback.undone), /^\d{4}-.* 2\.0\.0-broken\n$/);
});

t.test('what was taken back is not tried again too soon, and something else is', async (t) => {
  const node = await ready(t);
  give(node, '2.0.0-broken');
  await t.rejects(doInstall(node), { name: 'RevertedError' });
  node.ran.length = 0;
  // The script has the machine's time of day.
  const [, ...what] = node.read(rollback.undone).split(' ');
  node.write(rollback.undone, [node.machine.date().toISOString(), ...what].join(' '));
  const units = { stages: ['units'], retryAfterMs: 1_800_000 } as const;
  await t.rejects(doInstall(node, units), {
    name: 'Refusal',
    message: /2\.0\.0-broken was taken back at .* not tried/,
  });
  t.notOk(node.ran.includes(restart));
  await t.rejects(doInstall(node, { stages: ['units'] }), { name: 'RevertedError' }, 'but without --retry-after');
  give(node, '2.0.1');
  await doInstall(node, { retryAfterMs: 1_800_000 });
  t.equal(node.read(bundle), '2.0.1');
  t.notOk(node.files.has(rollback.undone));
});

t.test(
  'a new Holdfast through which no list comes is taken back, and one behind which the kubelet gets ill',
  async (t) => {
    for (const [message, breakIt] of [
      [/no list of the kubelet comes/, (node: FakeNode) => (node.lists = () => 0)],
      [/healthz.*500/, (node: FakeNode) => (node.healthz = '500 no')],
    ] as const) {
      const node = await ready(t);
      give(node, '2.0.0');
      const go = node.onCommand;
      node.onCommand = (command) => {
        go(command);
        if (command === restart) breakIt(node);
      };
      await t.rejects(doInstall(node), { name: 'RevertedError', message });
      isAsBefore(t, node);
    }
  },
);

t.test('what did not do well before need not do so after', async (t) => {
  for (const [said, breakIt] of [
    [/kubelet.service is not well as it is/, (node: FakeNode) => (node.healthz = '500 no')],
    [/no list of the kubelet comes through Holdfast as it is/, (node: FakeNode) => (node.lists = () => undefined)],
  ] as const) {
    const node = await ready(t);
    give(node, '2.0.0');
    breakIt(node);
    await doInstall(node);
    t.equal(node.read(bundle), '2.0.0');
    t.match(node.output, said);
  }
});

t.test('a configuration that the new program refuses is said before anything is changed', async (t) => {
  const node = await ready(t);
  give(node, '2.0.0');
  node.failing.set('env -i', { code: 2, stdout: '', stderr: 'holdfast: unknown key "new" in /etc/holdfast.yaml\n' });
  await t.rejects(doInstall(node), { name: 'Refusal', message: /refuses its configuration: unknown key "new"/ });
  isAsBefore(t, node);
  t.notOk(node.files.has(waitsIn));
  t.notOk(node.ran.some((command) => /restart|systemd-run/.test(command)));

  node.failing.clear();
  const config = node.read('/etc/holdfast.yaml');
  node.write('/etc/holdfast.yaml', config.replace(/^listen: .*/m, 'listen: /run/other.sock'));
  await t.rejects(doInstall(node), { name: 'Refusal', message: /says listen \/run\/other\.sock/ });
  node.write('/etc/holdfast.yaml', config);

  node.failing.set('env -i', { code: 1, stdout: '', stderr: 'SyntaxError: Unexpected token\n' });
  await t.rejects(doInstall(node), { name: 'Refusal', message: /does not start here: SyntaxError/ });
  isAsBefore(t, node);
});

t.test('the new program is asked with what its unit gives it', async (t) => {
  const node = await ready(t);
  give(node, '2.0.0');
  node.write('/etc/default/holdfast', 'HOLDFAST_HOLD_TTL="9m"\n');
  node.units.set(
    service,
    `# ${unit}\n[Service]\nEnvironmentFile=-/etc/default/holdfast\nExecStart=/opt/holdfast/bin/holdfast serve --config /etc/holdfast.yaml\n`,
  );
  await doInstall(node);
  const [asked = ''] = node.ran.filter((command) => command.startsWith('env -i'));
  t.match(asked, / HOLDFAST_HOLD_TTL=9m .*--config=\/etc\/holdfast\.yaml --listen=\/proc\//);
  t.match(asked, `${waitsIn}${bundle} serve`);
});

/** An installer that ends where it would start what is new: nothing of it runs any more. */
async function killedAtRestart(t: Test, node: FakeNode): Promise<void> {
  const go = node.onCommand;
  node.onCommand = (command) => {
    if (command === restart) throw new Error('killed');
  };
  node.failing.set('/bin/sh', { code: 1, stdout: '', stderr: '' });
  await t.rejects(doInstall(node));
  node.failing.clear();
  node.onCommand = go;
}

t.test('an upgrade whose installer is killed is taken back by its script, and by the next install', async (t) => {
  for (const isByScript of [true, false]) {
    const node = await ready(t);
    give(node, '2.0.0');
    await killedAtRestart(t, node);
    t.equal(node.read(bundle), '2.0.0');
    t.ok(node.files.has(rollback.pending));
    if (isByScript) {
      rollBack(node);
      t.equal(node.read(bundle), '1.0.0');
      t.match(node.read(unit), '1.0.0');
      t.ok(node.files.has(rollback.undone));
      // As where it was interrupted at the end, or the installer before its first change.
      node.write(rollback.undoing, '');
      rollBack(node);
      t.equal(node.read(bundle), '1.0.0');
      t.notOk(node.files.has(rollback.undoing), 'and once more, what is there already does no harm');
    } else {
      await doInstall(node);
      t.match(node.output, /an earlier upgrade, which was not confirmed, is taken back/);
      t.equal(node.read(bundle), '2.0.0');
      t.match(node.output, /confirmed: Holdfast 1\.0\.0 → 2\.0\.0/);
    }
  }
});

t.test('a mark that a power cut has brought back undoes nothing', async (t) => {
  const node = await ready(t);
  give(node, '2.0.0');
  await killedAtRestart(t, node);
  node.files.remove(keptIn);
  rollBack(node);
  t.equal(node.read(bundle), '2.0.0');
  for (const mark of [rollback.pending, rollback.undoing, rollback.undone]) t.notOk(node.files.has(mark), mark);
});

t.test('a mark without the script that it is for is said, with what to do', async (t) => {
  const node = await ready(t);
  node.write(rollback.pending, '');
  await t.rejects(doInstall(node), {
    name: 'RevertedError',
    message: `${rollback.script} is gone; see to it, then remove ${rollback.pending}`,
  });
});

t.test('a time that is still to come holds nothing back', async (t) => {
  const node = await ready(t);
  const now = node.machine.date().getTime();
  const at = (afterMs: number) => new Date(now + afterMs).toISOString();
  t.equal(pauseEnds(node.machine, at(0), 1_000), at(1_000));
  t.equal(pauseEnds(node.machine, at(-999), 1_000), at(1));
  for (const since of [at(-1_000), at(1), 'x', undefined]) t.equal(pauseEnds(node.machine, since, 1_000), undefined);
  t.equal(pauseEnds(node.machine, at(0), 0), undefined);
});

t.test('a unit that only the new one has goes when it is taken back', async (t) => {
  const node = await ready(t);
  give(node, '2.0.0-broken');
  writeFileSync(`${node.folder}/given/holdfast-bypass.service`, '[Service]\n');
  await t.rejects(doInstall(node), { name: 'RevertedError' });
  t.notOk(existsSync(`${node.folder}/etc/systemd/system/holdfast-bypass.service`));
});

t.test('nothing is changed where there would be no way back', async (t) => {
  const node = await ready(t);
  give(node, '2.0.0');
  node.states.delete('holdfast-rollback.timer');
  await t.rejects(doInstall(node), { name: 'Refusal', message: /cannot be armed/ });
  t.equal(node.read(bundle), '1.0.0');
  t.notOk(node.files.has(rollback.pending));
});

t.test('a dry run says that what is new would be started, and how it would be taken back', async (t) => {
  const node = await ready(t);
  give(node, '2.0.0');
  let said = '';
  const steps = new Steps({ write: (text) => (said += text) }, true);
  await install(node.machine, steps, given(node), node.asks);
  t.match(said, /would do +\/opt\/holdfast\/lib\/holdfast\.mjs: a new one/);
  t.match(said, /would do +holdfast\.service restarted with what is new/);
  t.match(said, /would be taken back unless it does well within 60 s/);
  t.equal(node.read(bundle), '1.0.0');
  t.notOk(node.files.has(waitsIn));
});

t.test('the stages one by one do the same, and the first leaves what runs alone', async (t) => {
  const node = await ready(t);
  give(node, '2.0.0');
  await doInstall(node, { stages: ['artifacts'] });
  t.equal(node.read(bundle), '1.0.0');
  await doInstall(node, { stages: ['artifacts'] });
  t.match(node.output, /a new one waits beside it/);
  await doInstall(node, { stages: ['units'] });
  t.equal(node.read(bundle), '2.0.0');
  give(node, '3.0.0');
  await doInstall(node, { stages: ['artifacts'] });
  give(node, '2.0.0');
  await doInstall(node);
  t.equal(node.read(bundle), '2.0.0', 'one that is not wanted any more is not started');
  t.notOk(node.files.has(waitsIn));
});

t.test('an upgrade that waits to be confirmed does not outlive Holdfast', async (t) => {
  const node = await ready(t);
  for (const mark of [rollback.pending, `/etc/systemd/system/${rollback.unit}`]) node.write(mark, '');
  const options = { stages: usualUninstallStages, runtime: undefined, kubeletUnit: undefined, healthyWithinMs: 5_000 };
  node.onCommand = (command) => {
    if (command.startsWith('systemctl --no-block restart kubelet'))
      node.states.set('kubelet.service', { ...running, InvocationID: 'second' });
  };
  await uninstall(node.machine, node.steps, options, async () => node.healthz);
  const ofAll = node.ran.filter((command) => /^systemctl stop .*holdfast\.service/.test(command));
  t.equal(ofAll.length, 2, 'what follows a failed stop is stopped, too');
  t.ok(node.ran.includes(`systemctl stop ${rollback.timer} ${rollback.unit}`), 'one that is at work is ended');
  for (const left of [rollback.pending, `/etc/systemd/system/${rollback.unit}`]) t.notOk(node.files.has(left), left);
});

/** The shipped units, as texts: what holds between settings of which each seems to be right by itself. */
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';

const folder = new URL('../../examples/systemd/', import.meta.url);
const textOf = (unit: string) => readFileSync(new URL(unit, folder), 'utf8');

/** The last of a setting. */
function settingOf(unit: string, name: string): string {
  const found = [...textOf(unit).matchAll(new RegExp(`^${name}=((?:.*\\\\\\n)*.*)$`, 'gm'))].at(-1)?.[1];
  if (found === undefined) throw new Error(`${unit} has no ${name}=`);
  return found;
}

t.test('a service that hangs again and again reaches its start limit, as one that crashes does', async (t) => {
  const seconds = (name: string) => Number(settingOf('holdfast.service', name));
  const starts = seconds('StartLimitBurst');
  const limit = seconds('StartLimitIntervalSec');
  // What hangs right after a sign of life, the first of which comes at half the time.
  const hung = seconds('WatchdogSec') * 1.5 + 3;
  t.ok(starts * hung < limit, 'ended by the watchdog');
  t.ok(starts * (seconds('TimeoutStartSec') + 1) < limit, 'ended while it starts');
  t.equal(settingOf('holdfast.service', 'TimeoutStartFailureMode'), 'kill', 'at once, whether it heeds SIGTERM or not');
});

/** @returns The runtime that the bypass leads to, where this is Holdfast's configuration. */
function bypassed(t: Test, config: string | undefined, env: Readonly<Record<string, string>> = {}): string {
  const place = mkdtempSync(join(tmpdir(), 'hf-'));
  t.teardown(() => rmSync(place, { recursive: true }));
  writeFileSync(`${place}/proxy`, '#!/bin/sh\necho "$2"\n');
  chmodSync(`${place}/proxy`, 0o755);
  if (config !== undefined) writeFileSync(`${place}/holdfast.yaml`, config);
  const [, script = ''] =
    /^\/bin\/sh -c '(.*)'$/s.exec(settingOf('holdfast-bypass.service', 'ExecStart').replaceAll('\\\n', '')) ?? [];
  const command = script
    .replaceAll('$$', '$')
    .replaceAll('\\\\', '\\')
    .replaceAll('/etc/holdfast.yaml', `${place}/holdfast.yaml`)
    .replaceAll('/usr/lib/systemd/systemd-socket-proxyd', `${place}/proxy`);
  return execFileSync('/bin/sh', ['-c', command], { env, stdio: ['ignore', 'pipe', 'ignore'] })
    .toString()
    .trim();
}

t.test('the bypass finds a runtime whatever has become of the configuration', async (t) => {
  t.equal(bypassed(t, 'runtime: unix:///run/crio/crio.sock\n'), '/run/crio/crio.sock');
  t.equal(bypassed(t, 'runtime: "/run/crio/crio.sock" # ours\n'), '/run/crio/crio.sock');
  t.equal(bypassed(t, 'x', { HOLDFAST_RUNTIME: 'unix:/run/k3s.sock' }), '/run/k3s.sock');
  t.equal(bypassed(t, '{"runtime": "unix:///run/crio/crio.sock"}'), '/run/crio/crio.sock', 'JSON');
  for (const [what, config] of [
    ['none', undefined],
    ['empty', ''],
    ['a comment', '#runtime: /run/crio/crio.sock\n'],
    ['no value', 'runtime:\n'],
  ] as const) {
    t.equal(bypassed(t, config), '/run/containerd/containerd.sock', what);
  }
});

t.test('a marker that cannot be written keeps no bypass from its work', async (t) => {
  t.match(settingOf('holdfast-bypass.service', 'ExecStartPre'), /^-/);
});

/** The shipped units, as texts: what holds between settings of which each seems to be right by itself. */
import { execFileSync, spawnSync } from 'node:child_process';
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

interface Counted {
  /** What the service has failed with; default: an exit with 1. */
  readonly env?: Readonly<Record<string, string>>;
  /** What is remembered of failures, as seconds of uptime. */
  readonly crashes?: string;
  /** It cannot be written; systemd's own count is this. */
  readonly restarts?: number;
}

/** Ends the service at an uptime of 1,000 s. @returns The bypass's marker, what was started, and what is remembered. */
function failed(t: Test, { env = {}, crashes, restarts }: Counted) {
  const place = mkdtempSync(join(tmpdir(), 'hf-'));
  t.teardown(() => rmSync(place, { recursive: true }));
  const read = (name: string) => {
    try {
      return readFileSync(`${place}/${name}`, 'utf8').trim();
    } catch {
      return undefined;
    }
  };
  writeFileSync(`${place}/uptime`, '1000.12 77.00\n');
  writeFileSync(`${place}/systemctl`, `#!/bin/sh\n[ $1 = show ] && echo ${restarts} || echo "$@" >>${place}/told\n`);
  chmodSync(`${place}/systemctl`, 0o755);
  if (crashes !== undefined) writeFileSync(`${place}/crashes`, crashes);
  const remembers = restarts === undefined ? `${place}/crashes` : `${place}/none/crashes`;
  const command = shellOf('holdfast.service', 'ExecStopPost')
    .replaceAll('/run/holdfast/crashes', remembers)
    .replaceAll('/run/holdfast/bypassed', `${place}/bypassed`)
    .replaceAll('/proc/uptime', `${place}/uptime`);
  const usual = {
    SERVICE_RESULT: 'exit-code',
    EXIT_CODE: 'exited',
    EXIT_STATUS: '1',
    PATH: `${place}:${process.env.PATH}`,
  };
  spawnSync('/bin/sh', ['-c', command], { env: { ...usual, ...env } });
  return { marker: read('bypassed'), told: read('told'), crashes: read('crashes') };
}

const bypassing = 'start --no-block holdfast-bypass.service holdfast-retry.timer';

t.test('the third failure within two minutes starts the bypass and says why, and no earlier one does', async (t) => {
  t.match(failed(t, {}), { marker: undefined, told: undefined, crashes: '1000' });
  t.match(failed(t, { crashes: '990' }), { marker: undefined, told: undefined, crashes: '990 1000' });
  const third = failed(t, {
    crashes: '881 990',
    env: { SERVICE_RESULT: 'watchdog', EXIT_CODE: 'killed', EXIT_STATUS: 'KILL' },
  });
  t.match(third, { marker: /^\S+Z holdfast.service failed: watchdog, killed KILL$/, told: bypassing });
  t.match(
    failed(t, { crashes: '880 990' }),
    { marker: undefined, told: undefined, crashes: '990 1000' },
    'too long ago',
  );
});

t.test('an orderly end begins the count of failures anew', async (t) => {
  const ended = failed(t, { crashes: '998 999', env: { SERVICE_RESULT: 'success', EXIT_STATUS: '0' } });
  t.match(ended, { marker: undefined, told: undefined, crashes: undefined });
});

t.test("where failures cannot be counted systemd's own count of restarts stands for them", async (t) => {
  t.equal(failed(t, { restarts: 1 }).told, undefined);
  t.equal(failed(t, { restarts: 2 }).told, bypassing, 'the third failure: it is told before the third restart');
});

t.test('a configuration that is not understood is not tried again, and the marker says so', async (t) => {
  t.match(failed(t, { env: { EXIT_STATUS: '2' } }), { marker: / failed: exit-code, exited 2$/, told: undefined });
  t.equal(settingOf('holdfast.service', 'RestartPreventExitStatus'), '2');
  t.match(settingOf('holdfast.service', 'OnFailure'), /holdfast-bypass.service.*holdfast-retry.timer/);
});

t.test('the timer tries what can read its configuration, and what drop-ins say more of', async (t) => {
  const place = mkdtempSync(join(tmpdir(), 'hf-'));
  t.teardown(() => rmSync(place, { recursive: true }));
  const tries = (dropIn: string, code: number) => {
    writeFileSync(`${place}/unit`, `${textOf('holdfast.service')}\n# drop-in\n[Service]\n${dropIn}\n`);
    writeFileSync(
      `${place}/systemctl`,
      `#!/bin/sh\n[ "$*" = "cat holdfast.service" ] || exit 9\nexec cat ${place}/unit\n`,
    );
    writeFileSync(
      `${place}/holdfast`,
      `#!/bin/sh\n[ "$*" = "serve --dry-run --config /etc/holdfast.yaml" ] || exit 9\nexit ${code}\n`,
    );
    for (const program of ['systemctl', 'holdfast']) chmodSync(`${place}/${program}`, 0o755);
    const command = shellOf('holdfast-retry.service', 'ExecCondition');
    const own = command.replaceAll('/opt/holdfast/bin/holdfast', `${place}/holdfast`);
    return spawnSync('/bin/sh', ['-c', own], { env: { PATH: `${place}:${process.env.PATH}` } }).status === 0;
  };
  t.ok(tries('', 0));
  t.notOk(tries('', 2));
  t.notOk(tries('WatchdogSec=0\nExecStartPre=/bin/true', 2), 'one that says nothing of it');
  t.ok(tries('Environment=HOLDFAST_RUNTIME=/run/crio/crio.sock', 2));
  t.ok(tries('EnvironmentFile=/etc/more', 2));
  t.ok(tries('ExecStart=\nExecStart=/opt/holdfast/bin/holdfast serve --runtime /run/crio/crio.sock', 2));
  t.match(settingOf('holdfast-retry.service', 'CapabilityBoundingSet'), /CAP_DAC_READ_SEARCH/, "somebody else's file");
});

t.test('three that hang fit into the time in which failures are counted', async (t) => {
  const seconds = (name: string) => Number(settingOf('holdfast.service', name));
  const counted = Number(/now - (\d+)/.exec(settingOf('holdfast.service', 'ExecStopPost'))?.[1]);
  // What hangs right after a sign of life, the first of which comes at half the time.
  const hung = seconds('WatchdogSec') * 1.5 + 3;
  t.ok(2 * hung < counted, 'ended by the watchdog');
  t.ok(2 * (seconds('TimeoutStartSec') + 1) < counted, 'ended while it starts');
  t.equal(settingOf('holdfast.service', 'TimeoutStartFailureMode'), 'kill', 'at once, whether it heeds SIGTERM or not');
});

t.test('systemd itself stops trying long after the bypass should run: its start limit costs the socket', async (t) => {
  t.ok(Number(settingOf('holdfast.service', 'StartLimitBurst')) >= 30);
  t.ok(Number(settingOf('holdfast.service', 'StartLimitIntervalSec')) <= 60);
  t.equal(settingOf('holdfast-retry.timer', 'StartLimitIntervalSec'), '0', 'and the timer has none');
});

/** What a setting has a shell do. */
function shellOf(unit: string, name: string): string {
  const setting = settingOf(unit, name).replaceAll('\\\n', '');
  const [, script = ''] = /^[-+]*\/bin\/sh -c '(.*)'$/s.exec(setting) ?? [];
  return script.replaceAll('$$', '$').replaceAll('%%', '%').replaceAll('\\\\', '\\');
}

/** @returns The runtime that the bypass leads to, where this is Holdfast's configuration. */
function bypassed(t: Test, config: string | undefined, env: Readonly<Record<string, string>> = {}): string {
  const place = mkdtempSync(join(tmpdir(), 'hf-'));
  t.teardown(() => rmSync(place, { recursive: true }));
  writeFileSync(`${place}/proxy`, '#!/bin/sh\necho "$2"\n');
  chmodSync(`${place}/proxy`, 0o755);
  if (config !== undefined) writeFileSync(`${place}/holdfast.yaml`, config);
  const command = shellOf('holdfast-bypass.service', 'ExecStart')
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
  t.equal(bypassed(t, '\uFEFFruntime: /run/crio/crio.sock\r\n'), '/run/crio/crio.sock', 'as Windows writes it');
  const twice = 'runtime: /run/containerd/containerd.sock\nhold-ttl: 5m\nruntime: /run/crio/crio.sock\n';
  t.equal(bypassed(t, twice), '/run/crio/crio.sock', 'twice, which Holdfast does not understand');
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

/** The units of examples/systemd on a systemd of the test's own, with the program that `npm run bundle` has made. */
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';
import { buildGrpcGo, GoCaller } from './grpc-go.js';
import { inside, nodeInside, repositoryInside, type Systemd, startSystemd } from './systemd.js';
import { until } from './until.js';

export const units = fileURLToPath(new URL('../../../examples/systemd', import.meta.url));
export const service = 'holdfast.service';
const socket = '/run/holdfast/holdfast.sock';
const launcher = '/opt/holdfast/bin/holdfast';
/** Without the bypass after three failures, and without what takes a busy machine for a hung process. */
export const patient = {
  [`${service}.d/50-test.conf`]: '[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStopPost=\nWatchdogSec=0\n',
};

export interface Node {
  readonly systemd: Systemd;
  /** Holdfast's socket, from outside. */
  readonly socket: string;
  caller(): Promise<GoCaller>;
}

/** Makes the program that the unit starts. */
export function install(systemd: Systemd, runs = `exec ${nodeInside} ${repositoryInside}/dist/holdfast.mjs "$@"`) {
  systemd.writeFile(`${launcher}.new`, `#!/bin/sh\n${runs}\n`, 0o755);
  fs.renameSync(systemd.path(`${launcher}.new`), systemd.path(launcher));
}

/**
 * A systemd with the units, none of which has been started.
 *
 * @param dropIns By the names of their files.
 * @param runtime Path of its socket, from inside; its directory may be one of the machine.
 */
export async function startNode(
  t: Test,
  dropIns: Readonly<Record<string, string>>,
  runtime = `${inside}/r.sock`,
): Promise<Node> {
  const systemd = await startSystemd(t, (systemd) => {
    for (const name of fs.readdirSync(units)) systemd.writeUnit(name, fs.readFileSync(path.join(units, name), 'utf8'));
    for (const [name, text] of Object.entries(dropIns)) systemd.writeUnit(name, text);
    systemd.writeFile('/etc/holdfast.yaml', `runtime: unix://${runtime}\ndrain-timeout: 3s\n`);
    install(systemd);
  });
  t.teardown(() => {
    if (!t.passing()) t.comment(`end of the services' output:\n${systemd.output().split('\n').slice(-40).join('\n')}`);
  });
  const program = await buildGrpcGo(systemd.directory);
  const outside = systemd.path(socket);
  return { systemd, socket: outside, caller: () => GoCaller.start(t, program, outside) };
}

export async function start({ systemd }: Node): Promise<void> {
  await systemd.systemctl('start', 'holdfast.socket', service);
}

export async function kill(systemd: Systemd, signal: NodeJS.Signals): Promise<void> {
  const pid = await until('the service runs', async () => (await systemd.mainPid(service)) || undefined);
  process.kill(pid, signal);
}

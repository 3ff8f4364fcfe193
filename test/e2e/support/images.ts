/**
 * Images for a machine without a registry: one layer of static busybox, as an archive that `ctr images import` takes.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, copyFileSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';

export const images = {
  /** The sandbox's own. */
  pause: 'docker.io/local/pause:1',
  /** Runs for an hour unless told otherwise, and leaves at once on SIGTERM. */
  busybox: 'docker.io/local/busybox:1',
  /** Like busybox, with a volume whose content the runtime copies in CreateContainer. */
  volume: 'docker.io/local/volume:1',
} as const;

/** Where the `volume` image has the one file of its volume. */
export const volumeFile = 'data/gate';

const untilTerminated = "trap 'exit 0' TERM; sleep 3600 & wait";

/** Writes the archive with all images; needs `tar` and a static busybox. */
export function writeImageArchive(archive: string, busybox: string): void {
  const work = `${archive}.d`;
  const rootfs = path.join(work, 'rootfs');
  for (const directory of ['bin', 'etc', 'proc', 'sys', 'dev', 'tmp', path.dirname(volumeFile)]) {
    mkdirSync(path.join(rootfs, directory), { recursive: true });
  }
  copyFileSync(busybox, path.join(rootfs, 'bin/busybox'));
  chmodSync(path.join(rootfs, 'bin/busybox'), 0o755);
  for (const applet of execFileSync(busybox, ['--list'], { encoding: 'utf8' }).trim().split('\n')) {
    if (applet !== 'busybox') symlinkSync('busybox', path.join(rootfs, 'bin', applet));
  }
  writeFileSync(path.join(rootfs, 'etc/passwd'), 'root:x:0:0:root:/:/bin/sh\n');
  writeFileSync(path.join(rootfs, 'etc/group'), 'root:x:0:\n');
  writeFileSync(path.join(rootfs, volumeFile), 'content\n');
  const layer = path.join(work, 'layer.tar');
  execFileSync('tar', ['--owner=0', '--group=0', '-C', rootfs, '-cf', layer, '.']);

  const diffId = `sha256:${createHash('sha256').update(readFileSync(layer)).digest('hex')}`;
  const commands: Record<keyof typeof images, object> = {
    pause: { Entrypoint: ['/bin/sleep', '1000000000'] },
    busybox: { Cmd: ['/bin/sh', '-c', untilTerminated] },
    volume: { Cmd: ['/bin/sh', '-c', untilTerminated], Volumes: { [`/${path.dirname(volumeFile)}`]: {} } },
  };
  const manifest = Object.entries(commands).map(([name, command]) => {
    const config = {
      architecture: process.arch === 'x64' ? 'amd64' : process.arch,
      os: 'linux',
      config: { Env: ['PATH=/bin'], ...command },
      rootfs: { type: 'layers', diff_ids: [diffId] },
    };
    writeFileSync(path.join(work, `${name}.json`), JSON.stringify(config));
    return { Config: `${name}.json`, RepoTags: [`local/${name}:1`], Layers: ['layer.tar'] };
  });
  writeFileSync(path.join(work, 'manifest.json'), JSON.stringify(manifest));
  execFileSync('tar', ['-C', work, '-cf', archive, 'manifest.json', 'layer.tar', ...manifest.map((m) => m.Config)]);
  rmSync(work, { recursive: true });
}

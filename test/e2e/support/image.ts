/**
 * The image that the Containerfile makes, built by a real buildah. Stand-ins for the two base images are made of this machine's programs, and
 * `npm ci` there takes the packages that are installed here: nothing is fetched.
 */
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { find, missingPrograms } from './programs.js';

const repository = path.resolve(fileURLToPath(new URL('../../..', import.meta.url)));
const execute = promisify(execFile);
const name = 'localhost/holdfast:test';
/** What the Containerfile builds on; Node's has a tag. */
const buildBase = 'docker.io/library/node';
const programBase = 'gcr.io/distroless/cc-debian12';

export interface Image {
  /** Its files are below this folder. */
  readonly root: string;
  /** As in the image specification of OCI. */
  readonly config: { readonly User: string; readonly Env: readonly string[]; readonly Entrypoint: readonly string[] };
}

/** Why no image can be built here. */
export function missingBuilder(): string | undefined {
  return missingPrograms('buildah', 'chroot', 'ldd', 'npm');
}

function baseImages(): string[] {
  const text = fs.readFileSync(`${repository}/Containerfile`, 'utf8');
  return [...text.matchAll(/^FROM (\S+)/gm)].map(([, base = '']) => base);
}

/** @param folder Gets the image's files. */
export async function buildImage(folder: string): Promise<Image> {
  const work = fs.mkdtempSync(path.join(os.tmpdir(), 'hfbuild-'));
  const storage = ['--root', `${work}/store`, '--runroot', `${work}/run`, '--storage-driver', 'vfs'];
  const buildah = async (...args: readonly string[]) =>
    (await execute('buildah', [...storage, ...args], { env: { PATH: process.env.PATH, HOME: work } })).stdout.trim();
  const base = async (image: string, root: string, path: string) => {
    const container = await buildah('from', 'scratch');
    await buildah('add', container, root, '/');
    await buildah('config', '--env', `PATH=${path}`, container);
    await buildah('commit', '--rm', container, image);
  };
  try {
    const systemPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
    for (const image of baseImages()) {
      if (image.startsWith(`${buildBase}:`)) await base(image, await makeBuildBase(`${work}/build`), systemPath);
      else if (image === programBase) await base(image, await makeProgramBase(`${work}/program`), systemPath);
      else throw new Error(`the Containerfile builds on ${image}, for which there is no stand-in`);
    }
    await buildah('bud', '--pull-never', '--isolation=chroot', ...volumes(), '--tag', name, repository);
    const container = await buildah('from', '--pull-never', name);
    const mounted = await buildah('mount', container);
    fs.cpSync(mounted, folder, { recursive: true, verbatimSymlinks: true });
    const { OCIv1 } = JSON.parse(await buildah('inspect', '--type=image', name));
    return { root: folder, config: OCIv1.config };
  } finally {
    await buildah('rm', '--all').catch(() => {});
    fs.rmSync(work, { recursive: true, force: true });
  }
}

/** What the stand-in for the first stage has of this machine, as it is. */
function volumes(): string[] {
  const npm = path.dirname(path.dirname(fs.realpathSync(find('npm') ?? '')));
  const seen = ['/usr/bin', '/usr/sbin', '/usr/lib', '/usr/share', npm].map((folder) => `${folder}:${folder}:ro`);
  return [...seen, `${repository}/node_modules:/build/node_modules:ro`].flatMap((volume) => ['--volume', volume]);
}

/** As docker.io/library/node: a Debian with Node, npm and Node's licence below /usr/local. */
async function makeBuildBase(root: string): Promise<string> {
  for (const folder of ['tmp', 'root', 'usr/local/bin']) fs.mkdirSync(`${root}/${folder}`, { recursive: true });
  for (const link of ['bin', 'sbin', 'lib', 'lib64']) {
    if (fs.existsSync(`/${link}`)) fs.symlinkSync(`usr/${link}`, `${root}/${link}`);
  }
  copy(process.execPath, `${root}/usr/local/bin/node`);
  // COPY takes it from the image itself, where no volume is.
  copy(find('chroot') ?? '', `${root}/usr/sbin/chroot`);
  fs.mkdirSync(`${root}/usr/lib64`, { recursive: true });
  fs.cpSync('/usr/lib64', `${root}/usr/lib64`, { recursive: true, verbatimSymlinks: true });
  fs.writeFileSync(`${root}/usr/local/LICENSE`, "Node's licence\n");
  const npm = fs.realpathSync(find('npm') ?? '');
  fs.writeFileSync(
    `${root}/usr/local/bin/npm`,
    `#!/bin/sh\n[ "$1" = ci ] || exec node ${npm} "$@"\n[ -f package-lock.json ] && [ -d node_modules ]\n`,
    { mode: 0o755 },
  );
  return root;
}

/** As gcr.io/distroless/cc: glibc, libgcc and libstdc++. */
async function makeProgramBase(root: string): Promise<string> {
  fs.mkdirSync(`${root}/tmp`, { recursive: true });
  await copyLibraries(process.execPath, root);
  return root;
}

/** Copies the libraries that a program is linked with to where they are here. */
export async function copyLibraries(program: string, root: string): Promise<void> {
  const { stdout } = await execute('ldd', [program]);
  for (const [library] of stdout.matchAll(/\/\S+(?= \()/g)) copy(library, root + library);
}

/** With its folders. */
export function copy(from: string, to: string): void {
  fs.mkdirSync(path.dirname(to), { recursive: true });
  fs.copyFileSync(from, to);
}

/**
 * The names of a container's logs in its pod's log directory: another attempt's log is linked under the name the kubelet
 * expects, and such a link is taken away again. Touches nothing outside of that directory. Knows no runtime.
 *
 * The kubelet links /var/log/containers to `<log_directory>/<container>/<restartCount>.log` after the start, and leaves the
 * link out where that file is missing (CRI ContainerConfig.log_path, PodSandboxConfig.log_directory).
 */
import { randomUUID } from 'node:crypto';
import { link, lstat, readlink, realpath, rename, symlink, unlink } from 'node:fs/promises';
import { basename, dirname, isAbsolute, join, relative, resolve, sep } from 'node:path';
import type { ContainerFingerprint } from '../cache/fingerprint.js';

type LogName = Pick<ContainerFingerprint, 'logDirectory' | 'logPath'>;

/** Where a log is in truth: no directory of either path is a symlink. */
interface Place {
  /** The pod's log directory. */
  readonly podDirectory: string;
  readonly path: string;
}

/** A name that comes back after it was found to be another attempt's is somebody else's. */
const maxTries = 3;

/**
 * Links the log of the attempt that was asked for to that of the attempt that was made. A link to another attempt's log makes
 * way, a file stays; so does everything where one of the two has no log.
 *
 * @throws Why it is not linked: what the file system said, or that one of the names is not inside the pod's log directory.
 */
export async function linkLog(asked: LogName, made: LogName): Promise<void> {
  if (asked.logPath === '' || made.logPath === '' || asked.logDirectory === '') return;
  const place = await placeOf(asked);
  const log = await placeOf(made);
  if (log.path === place.path) return;
  if (!isInside(log.path, place.podDirectory)) throw new Error(`${log.path} is not the log of this pod`);
  // Both as links would point at each other, and the runtime could open neither.
  if (isLogOf(place.podDirectory, await linkTarget(log.path))) throw new Error(`${log.path} is itself a link`);
  for (let left = maxTries; left !== 0; left--) {
    await unless(['EEXIST'], symlink(relative(dirname(place.path), log.path), place.path));
    const target = await linkTarget(place.path);
    if (target === log.path) return;
    if (isLogOf(place.podDirectory, target)) await removeLink(place.path);
    else if (await isFile(place.path)) return;
  }
  throw new Error(`${place.path} is taken`);
}

/**
 * Takes away what linkLog left where this container's log is to be, so that each attempt writes a file of its own. To be called
 * before the runtime makes it; costs one look where nothing is there, or a file.
 *
 * @returns Whether there was such a link. A file is never removed, nor a link to anything but an attempt's log in this pod's log
 * directory.
 * @throws Why it cannot tell or remove it, as in linkLog.
 */
export async function clearLogLink(asked: LogName): Promise<boolean> {
  if (!isRelativeName(asked.logPath) || !isAbsolute(asked.logDirectory)) return false;
  if (!(await isLink(join(asked.logDirectory, asked.logPath)))) return false;
  const place = await placeOf(asked);
  return isLogOf(place.podDirectory, await linkTarget(place.path)) && (await removeLink(place.path));
}

async function placeOf({ logDirectory, logPath }: LogName): Promise<Place> {
  if (!isAbsolute(logDirectory)) throw new Error(`the log directory ${logDirectory} is not absolute`);
  if (!isRelativeName(logPath)) throw new Error(`${logPath} does not name a file inside the pod's log directory`);
  const podDirectory = await realpath(logDirectory);
  const directory = await realpath(join(logDirectory, dirname(logPath)));
  if (directory !== podDirectory && !isInside(directory, podDirectory))
    throw new Error(`${logPath} leads out of the pod's log directory, to ${directory}`);
  return { podDirectory, path: join(directory, basename(logPath)) };
}

/** `app/0.log`, with names for steps. */
function isRelativeName(path: string): boolean {
  return path.split(sep).every((step) => step !== '' && step !== '.' && step !== '..');
}

/** @param path Absolute and without `..`, as the directory. */
function isInside(path: string, directory: string): boolean {
  return path.startsWith(directory.endsWith(sep) ? directory : `${directory}${sep}`);
}

/** Whether it is a name that kubelets give to the log of an attempt, `<number>.log`, inside the pod's log directory. */
function isLogOf(podDirectory: string, path: string | undefined): boolean {
  return path !== undefined && isInside(path, podDirectory) && /^\d+\.log$/.test(basename(path));
}

/** @returns Where the link leads, absolute; undefined where there is no link. */
async function linkTarget(path: string): Promise<string | undefined> {
  // EINVAL: it is there and no link.
  const target = await unless(['ENOENT', 'EINVAL'], readlink(path));
  return target && resolve(dirname(path), target);
}

async function isLink(path: string): Promise<boolean> {
  const found = await unless(['ENOENT', 'ENOTDIR'], lstat(path));
  return found?.isSymbolicLink() ?? false;
}

async function isFile(path: string): Promise<boolean> {
  const found = await unless(['ENOENT'], lstat(path));
  return found?.isFile() ?? false;
}

/**
 * Removes a link, and only that: what is removed was moved aside and looked at before, since a file could take the name after
 * any look at it.
 *
 * @returns Whether a link was removed.
 */
async function removeLink(path: string): Promise<boolean> {
  // Not a name that a kubelet takes for a log: it counts the attempts by `\d+.log`.
  const aside = join(dirname(path), `.holdfast-${randomUUID()}`);
  const moved = await unless(
    ['ENOENT'],
    rename(path, aside).then(() => true),
  );
  if (!moved) return false;
  const removable = await isLink(aside);
  // Gives the name back, unless it has been taken again; then the file stays aside.
  if (!removable) await link(aside, path);
  await unlink(aside);
  return removable;
}

/** @returns undefined where it failed with one of these codes of the system. */
async function unless<Result>(codes: readonly string[], done: Promise<Result>): Promise<Result | undefined> {
  try {
    return await done;
  } catch (error) {
    if (codes.some((code) => code === (error as NodeJS.ErrnoException).code)) return undefined;
    throw error;
  }
}

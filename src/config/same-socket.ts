/** Whether two paths lead to one socket, so that Holdfast is never made its own runtime. */
import { readlinkSync, realpathSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';

/** As many symbolic links as Linux follows in one path. Source: path_resolution(7). */
const maxLinks = 40;

/** @param a An absolute path, and `b` too; neither has to exist yet. */
export function isSameSocket(a: string, b: string): boolean {
  if (realPath(a) === realPath(b)) return true;
  const [fileA, fileB] = [inode(a), inode(b)];
  return fileA !== undefined && fileA === fileB;
}

/** Like realpath(3), but what does not exist yet stands for itself, also behind a dangling link. */
function realPath(path: string, linksLeft = maxLinks): string {
  try {
    return realpathSync(path);
  } catch {
    const parent = dirname(path);
    if (linksLeft === 0 || parent === path) return path;
    const target = linkTarget(path);
    return target === undefined
      ? join(realPath(parent, linksLeft), basename(path))
      : realPath(resolve(realPath(parent, linksLeft - 1), target), linksLeft - 1);
  }
}

function linkTarget(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}

/** Sees through hard links and bind mounts, which have no real path in common. */
function inode(path: string): string | undefined {
  try {
    const { dev, ino } = statSync(path, { bigint: true });
    return `${dev}:${ino}`;
  } catch {
    return undefined;
  }
}

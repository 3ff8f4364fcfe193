/**
 * The files of a node, below `/` or below the folder where a container or a test has them. Knows how to change one so that there is
 * always a whole one, and nothing of what is in them.
 */
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmdirSync,
  rmSync,
  type Stats,
  statSync,
  symlinkSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';

/** As Linux has it. */
const mostLinks = 40;

export class NodeFiles {
  readonly root: string;

  /** @param root `/`, or a folder that is the root of the node's files. */
  constructor(root: string) {
    this.root = path.resolve(root);
  }

  /**
   * @param file As the node names it.
   * @returns Where this process finds it. Links below `root` lead where they lead on the node, not out of `root`.
   */
  real(file: string): string {
    return this.root === '/' ? file : this.#resolved(file, true);
  }

  /** As `real`, but of a link itself. */
  #place(file: string): string {
    return this.root === '/' ? file : this.#resolved(file, false);
  }

  #resolved(file: string, followsLast: boolean): string {
    const left = file.split('/').filter(Boolean);
    let [place, links] = ['/', 0];
    for (let name = left.shift(); name !== undefined; name = left.shift()) {
      if (name === '..') {
        place = path.dirname(place);
        continue;
      }
      const next = path.join(place, name);
      const target = followsLast || left.length > 0 ? readLink(this.root + next) : undefined;
      if (target === undefined) {
        place = next;
        continue;
      }
      links += 1;
      if (links > mostLinks) throw new Error(`${file}: too many symbolic links`);
      left.unshift(...target.split('/').filter((part) => part !== '' && part !== '.'));
      if (target.startsWith('/')) place = '/';
    }
    return path.join(this.root, place);
  }

  /** @returns undefined where there is no such file. */
  bytes(file: string): Buffer | undefined {
    try {
      return readFileSync(this.real(file));
    } catch (error) {
      if (isAbsent(error)) return undefined;
      throw error;
    }
  }

  /** @returns undefined where there is no such file. */
  text(file: string): string | undefined {
    return this.bytes(file)?.toString();
  }

  /** @returns The names in a folder, in alphanumeric order; none where there is no such folder. */
  names(folder: string): string[] {
    try {
      return readdirSync(this.real(folder)).sort();
    } catch (error) {
      if (isAbsent(error)) return [];
      throw error;
    }
  }

  has(file: string): boolean {
    return existsSync(this.real(file));
  }

  /** Follows links. */
  stat(file: string): Stats | undefined {
    return statSync(this.real(file), { throwIfNoEntry: false });
  }

  /** @returns What a symbolic link says; undefined where there is none. */
  linkTarget(file: string): string | undefined {
    return readLink(this.#place(file));
  }

  /**
   * Puts a whole file in the place of the one that is there, or makes it, with its folder. Owner and mode stay; a link to a file stays
   * a link.
   *
   * @param mode Of a new file, and with `forced` of one that is there.
   */
  write(file: string, content: string | Buffer, mode = 0o644, forced = false): void {
    const real = this.#written(file);
    const folder = path.dirname(real);
    const prefix = `.${path.basename(real)}.holdfast-`;
    const temporary = path.join(folder, `${prefix}${process.pid}`);
    try {
      mkdirSync(folder, { recursive: true });
      // What a process that was killed has left may be large.
      for (const name of readdirSync(folder)) if (name.startsWith(prefix)) rmSync(path.join(folder, name));
      const old = statSync(real, { throwIfNoEntry: false });
      writeAll(temporary, Buffer.from(content));
      if (old !== undefined) chownSync(temporary, old.uid, old.gid);
      chmodSync(temporary, old === undefined || forced ? mode : old.mode & 0o7777);
      renameSync(temporary, real);
      syncFolder(folder);
    } catch (cause) {
      try {
        rmSync(temporary, { force: true });
      } catch {
        // As where its folder is read-only: then there is none.
      }
      throw new Error(`${file} cannot be written: ${cause instanceof Error ? cause.message : cause}`, { cause });
    }
  }

  /** Where a new content of a file has to go: a link to a file stays a link. */
  #written(file: string): string {
    const followed = this.real(file);
    if (this.linkTarget(file) === undefined) return followed;
    return existsSync(followed) ? realpathSync(followed) : this.#place(file);
  }

  /** Puts the same file there, in the place of one that is there, with its owner and mode. It takes no room on the same file system. */
  putSame(from: string, to: string): void {
    const [source, target] = [realpathSync(this.real(from)), this.#written(to)];
    const folder = path.dirname(target);
    const temporary = path.join(folder, `.${path.basename(target)}.holdfast-${process.pid}`);
    mkdirSync(folder, { recursive: true });
    rmSync(temporary, { force: true });
    try {
      linkSync(source, temporary);
    } catch {
      const { mode, uid, gid } = statSync(source);
      writeAll(temporary, readFileSync(source));
      chownSync(temporary, uid, gid);
      chmodSync(temporary, mode & 0o7777);
    }
    renameSync(temporary, target);
    // Of two names of one file rename(2) leaves both.
    rmSync(temporary, { force: true });
    syncFolder(folder);
  }

  /** Makes a symbolic link, in the place of one that is there. */
  link(file: string, target: string): void {
    const real = this.#place(file);
    mkdirSync(path.dirname(real), { recursive: true });
    const temporary = `${real}.holdfast-${process.pid}`;
    symlinkSync(target, temporary);
    renameSync(temporary, real);
  }

  rename(from: string, to: string): void {
    renameSync(this.#place(from), this.#place(to));
    syncFolder(path.dirname(this.#place(to)));
  }

  /** A file, a link or a folder with what is in it; harmless where it is not there. */
  remove(file: string): void {
    rmSync(this.#place(file), { recursive: true, force: true });
  }

  /** A folder that has something in it stays. */
  removeEmptyFolder(folder: string): void {
    if (this.stat(folder) !== undefined && this.names(folder).length === 0) rmdirSync(this.real(folder));
  }
}

/** A file that is on the disk. */
function writeAll(file: string, bytes: Buffer): void {
  const descriptor = openSync(file, 'w', 0o600);
  try {
    for (let written = 0; written < bytes.length; ) written += writeSync(descriptor, bytes, written);
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/** @returns What a symbolic link says; undefined for anything else. */
function readLink(file: string): string | undefined {
  try {
    return readlinkSync(file);
  } catch (error) {
    if (isAbsent(error) || codeOf(error) === 'EINVAL') return undefined;
    throw error;
  }
}

/** What was renamed into it is there after a power cut, too. */
function syncFolder(folder: string): void {
  const descriptor = openSync(folder, 'r');
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

function isAbsent(error: unknown): boolean {
  const code = codeOf(error);
  return code === 'ENOENT' || code === 'ENOTDIR';
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined;
}

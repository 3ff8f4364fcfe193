/** Versions of containerd, as its programs print them, and their order. */

export interface ContainerdVersion {
  readonly major: number;
  readonly minor: number;
}

/**
 * @param text What `containerd --version` prints: `containerd github.com/containerd/containerd 1.6.20~ds1 …`.
 * @throws {Error} It names no version.
 */
export function versionOf(text: string): ContainerdVersion {
  const [, major, minor] = / v?(\d+)\.(\d+)\./.exec(text) ?? [];
  if (major === undefined || minor === undefined) throw new Error(`containerd says of its version: ${text}`);
  return { major: Number(major), minor: Number(minor) };
}

/** Whether a version is this one or a later one. */
export function isSince(version: ContainerdVersion, major: number, minor: number): boolean {
  return version.major > major || (version.major === major && version.minor >= minor);
}

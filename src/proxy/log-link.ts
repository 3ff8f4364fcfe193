/** Lets log collectors find a container's log under the name of the attempt the kubelet believes in. */
import { symlink } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { ContainerFingerprint } from '../cache/fingerprint.js';

/**
 * Links the log of the asked attempt to that of the attempt that was made, both in the pod's log directory.
 *
 * The kubelet links /var/log/containers to `<log_directory>/<container>/<restartCount>.log` after the start, and leaves the
 * link out where that file is missing (CRI ContainerConfig.log_path, PodSandboxConfig.log_directory).
 *
 * @throws What the file system said; a name that is there already is left as it is.
 */
export async function linkLog(asked: ContainerFingerprint, made: ContainerFingerprint): Promise<void> {
  if (asked.logPath === '' || made.logPath === '' || asked.logDirectory === '' || asked.logPath === made.logPath)
    return;
  try {
    await symlink(basename(made.logPath), join(asked.logDirectory, asked.logPath));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
}

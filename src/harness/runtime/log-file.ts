/** The log of a container. */
import { appendFileSync } from 'node:fs';
import path from 'node:path';
import type { PodSandboxConfig } from './messages.js';

/** Undefined: none is wanted. */
export function logFileOf(pod: PodSandboxConfig, logPath: string): string | undefined {
  return pod.log_directory === '' || logPath === '' ? undefined : path.join(pod.log_directory, logPath);
}

/** Makes it. The kubelet makes the directory, so where there is none no log is wanted. */
export function openLog(file: string | undefined): void {
  if (file === undefined) return;
  try {
    appendFileSync(file, '');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}

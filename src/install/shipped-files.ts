/** The unit files and the configuration that come with the program; the only place that knows where they are. */
import { readFileSync } from 'node:fs';

/** @param name Below examples/, like `systemd/holdfast.socket`. @returns undefined where there is no such file. */
export function shippedFile(name: string): string | undefined {
  try {
    return readFileSync(new URL(`../../examples/${name}`, import.meta.url), 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw error;
  }
}

/** The unit files and the configuration that come with the program, by their names below examples/. */
import { shippedFiles, shippedText } from '../shipped.js';

/** @param name Like `systemd/holdfast.socket`. @returns undefined where there is no such file. */
export function shippedFile(name: string): string | undefined {
  const at = name.lastIndexOf('/');
  const folder = at < 0 ? 'examples' : `examples/${name.slice(0, at)}`;
  return shippedFiles(folder).includes(name.slice(at + 1)) ? shippedText(`examples/${name}`) : undefined;
}

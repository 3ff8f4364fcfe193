/** Where log lines go: standard output, in such a way that whoever reads it, or does not, cannot stop the proxy. */
import type { Writable } from 'node:stream';

/** Lines waiting for a reader, in bytes; further ones are lost. */
const maxUnwrittenBytes = 4 * 1024 * 1024;
/** How long the last lines may take at the end. */
const lastLinesMs = 1_000;

export interface LogOutput {
  write(line: string): void;
  /** Told how many lines were lost, once what waited for the reader is taken. */
  onLost: (lines: number) => void;
  /** Resolves when all lines are written, or after a second. */
  ended(): Promise<void>;
}

/**
 * @param output `process.stdout`: where it is a pipe or a socket (journald's), node writes to it without blocking and keeps what
 * is not taken; where it is a file, writes are synchronous.
 */
export function logOutput(output: Writable): LogOutput {
  // A reader that went away (EPIPE) costs the lines, not the node.
  output.on('error', () => {});
  let lost = 0;
  let gathering = false;
  /** The lines of one turn of the event loop go in one system call: a storm of pods makes hundreds. */
  const gather = () => {
    if (gathering) return;
    gathering = true;
    output.cork();
    setImmediate(() => {
      gathering = false;
      output.uncork();
    });
  };
  const logOutput: LogOutput = {
    onLost: () => {},
    write(line) {
      if (output.writableLength >= maxUnwrittenBytes) {
        lost += 1;
        return;
      }
      gather();
      output.write(line);
    },
    ended() {
      return new Promise((resolve) => {
        const limit = setTimeout(resolve, lastLinesMs);
        output.write('', () => {
          clearTimeout(limit);
          resolve();
        });
      });
    },
  };
  output.on('drain', () => {
    const lines = lost;
    lost = 0;
    if (lines > 0) logOutput.onLost(lines);
  });
  return logOutput;
}

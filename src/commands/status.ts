/** `holdfast status [POD]`: what a running Holdfast is at, and why a pod is stuck. */
import type { CommandModule } from 'yargs';
import { runStatus } from '../admin/status.js';
import { adminSocketOf, withAdminOption } from './admin-option.js';

const watchEveryMs = 2_000;

export const statusCommand: Pick<CommandModule, 'builder' | 'handler'> = {
  builder(yargs) {
    return withAdminOption(yargs)
      .positional('pod', {
        type: 'string',
        describe: 'Name, namespace/name or the begin of the uid; default: all pods',
      })
      .option('watch', { type: 'boolean', describe: 'Look again every 2 s' })
      .option('json', { type: 'boolean', describe: 'As JSON; with --watch one line each time' })
      .epilogue(
        'Exit codes: 0 nothing is stuck, 1 Holdfast cannot be asked, 2 not understood, 3 the node is bypassed: Holdfast ' +
          'is not in use, 4 something is stuck, or the runtime does not answer, 5 Holdfast knows of no such pod.',
      );
  },
  async handler(argv) {
    const ended = new AbortController();
    const end = () => ended.abort();
    for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, end);
    const options = {
      socket: adminSocketOf(argv),
      pod: typeof argv.pod === 'string' ? argv.pod : undefined,
      json: argv.json === true,
      watch: argv.watch === true,
    };
    process.exitCode = await runStatus(options, {
      stdout: process.stdout,
      stderr: process.stderr,
      now: () => new Date().toISOString(),
      again: () => pause(ended.signal),
    });
  },
};

/** @returns Whether to go on. */
function pause(signal: AbortSignal): Promise<boolean> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve(false);
    const end = () => {
      clearTimeout(timer);
      resolve(false);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', end);
      resolve(true);
    }, watchEveryMs);
    signal.addEventListener('abort', end, { once: true });
  });
}

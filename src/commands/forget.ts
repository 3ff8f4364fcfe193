/** `holdfast forget POD`: has a running Holdfast forget what it remembers of a pod. */
import type { CommandModule } from 'yargs';
import { runForget } from '../admin/forget.js';
import { adminSocketOf, withAdminOption } from './admin-option.js';

export const forgetCommand: Pick<CommandModule, 'builder' | 'handler'> = {
  builder(yargs) {
    return withAdminOption(yargs)
      .positional('pod', {
        type: 'string',
        demandOption: true,
        describe: 'Name, namespace/name or the begin of the uid',
      })
      .option('container', { type: 'string', requiresArg: true, describe: 'Only this container of it' })
      .epilogue(
        'What is remembered goes, pauses end, a held container is removed; the next request asks the runtime. What is under ' +
          'way, and what keeps a second copy from being made, stays. Exit codes: 0 done, 1 Holdfast cannot be asked, 2 not ' +
          'understood, 4 all was refused, 5 there is nothing of such a pod, or there are several.',
      );
  },
  async handler(argv) {
    const container = typeof argv.container === 'string' ? argv.container : undefined;
    const options = { socket: adminSocketOf(argv), pod: String(argv.pod), container };
    process.exitCode = await runForget(options, { stdout: process.stdout, stderr: process.stderr });
  },
};

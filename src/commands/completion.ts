/** `holdfast completion`: prints a script that a shell loads, which knows all commands, options and values by itself. */
import path from 'node:path';
import type { CommandModule } from 'yargs';
import { bashScript } from '../completion/bash.js';
import { zshScript } from '../completion/zsh.js';
import { ConfigError } from '../config/config-error.js';
import { choice } from '../config/kinds.js';
import { surfacesOf } from './surface.js';

const scripts = { bash: bashScript, zsh: zshScript };
const shell = choice('bash', 'zsh');

interface Io {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly stdout: { write(text: string): unknown };
}

/** @param commands All there are. */
export function completionCommand(
  commands: readonly CommandModule[],
  { env, stdout }: Io,
): Pick<CommandModule, 'builder' | 'handler'> {
  return {
    builder: (yargs) =>
      yargs
        .positional('shell', {
          type: 'string',
          describe: 'bash or zsh; without it the one that SHELL names',
          ...{ completions: shell.completions },
        })
        .epilogue(
          'For all users of a node: holdfast completion bash > /etc/bash_completion.d/holdfast, or holdfast completion zsh > ' +
            '/usr/share/zsh/site-functions/_holdfast (again after each upgrade). For one shell: source <(holdfast completion bash)',
        ),
    async handler({ shell: given }) {
      const asked = typeof given === 'string' ? given : path.basename(env.SHELL ?? '');
      const name = shell.parse(asked);
      if (name === undefined) {
        const source = given === undefined ? 'SHELL' : 'completion';
        throw new ConfigError(`${source}: ${JSON.stringify(asked)} is not allowed; give ${shell.allowed}`);
      }
      stdout.write(scripts[name](await surfacesOf(commands)));
    },
  };
}

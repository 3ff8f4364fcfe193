/** `holdfast check`: what is well on this node, what is not, and what to do. */
import type { CommandModule } from 'yargs';
import { check } from '../check/check.js';
import { shownFindings } from '../check/finding.js';
import { machineAt } from '../install/machine.js';
import type { Output } from '../install/steps.js';
import { givenNode, nodeOptions, texts } from './node-options.js';

export function checkCommand(stdout: Output): CommandModule {
  return {
    command: 'check',
    describe: 'Say of this node what is well, what is not, and what to do',
    builder: (yargs) =>
      yargs
        .options({
          ...texts(nodeOptions),
          json: { type: 'boolean', describe: 'As JSON: ok, and findings with group, name, level, text and remedy' },
        })
        .epilogue(
          'For before holdfast install and after; it changes nothing. Exit codes: 0 nothing failed (there may be warnings), 1 ' +
            'something failed, 2 not understood.',
        ),
    async handler(argv) {
      const { root, ...node } = givenNode(argv);
      const findings = await check(machineAt(root), node);
      const isOk = findings.every(({ level }) => level !== 'fail');
      stdout.write(argv.json === true ? `${JSON.stringify({ ok: isOk, findings })}\n` : shownFindings(findings));
      process.exitCode = isOk ? 0 : 1;
    },
  };
}

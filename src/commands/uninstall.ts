/** `holdfast uninstall`: the kubelet back to the runtime, and Holdfast off this node. */
import type { CommandModule } from 'yargs';
import { choice, duration, listOf, parseDuration } from '../config/kinds.js';
import { machineAt } from '../install/machine.js';
import { type Output, Steps } from '../install/steps.js';
import { uninstall, uninstallStages, usualUninstallStages } from '../install/uninstall.js';
import { given, givenNode, mustWrite, nodeOptions, summary, texts, withRemedy } from './node-options.js';

const defaultWithin = '2m';

const uninstallOptions = texts({
  stage: {
    describe: `Only these, with commas between them: ${uninstallStages.join(', ')}`,
    defaultDescription: usualUninstallStages.join(','),
  },
  ...nodeOptions,
  within: { describe: 'How long the kubelet may take to be well again', defaultDescription: defaultWithin },
});

export function uninstallCommand(stdout: Output): CommandModule {
  return {
    command: 'uninstall',
    describe: 'Send the kubelet back to the runtime, and take Holdfast off this node',
    builder: (yargs) =>
      yargs
        .options({
          ...uninstallOptions,
          'dry-run': { type: 'boolean', describe: 'Say what would be done, and do nothing' },
        })
        .epilogue(
          'What others have changed since stays: in a file of theirs only the endpoint is put back, and what is left is said. ' +
            'Exit codes: 0 done, 1 something is left, 2 not understood.',
        ),
    async handler(argv) {
      const { root, ...node } = givenNode(argv);
      const steps = new Steps(stdout, argv['dry-run'] === true);
      const within = given(argv, 'within', duration('1s', '1h')) ?? parseDuration(defaultWithin);
      const stages = given(argv, 'stage', listOf(choice(...uninstallStages))) ?? usualUninstallStages;
      if (!steps.dryRun) mustWrite(root);
      try {
        await uninstall(machineAt(root), steps, { ...node, stages, healthyWithinMs: within ?? 0 });
      } catch (error) {
        throw withRemedy(error);
      }
      stdout.write(summary(steps, 'uninstalled'));
    },
  };
}

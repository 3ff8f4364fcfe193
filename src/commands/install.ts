/** `holdfast install`: puts Holdfast on this node and the kubelet behind it. */
import type { CommandModule } from 'yargs';
import { choice, directory, duration, listOf, parseDuration } from '../config/kinds.js';
import { install, stages, usualStages } from '../install/install.js';
import { machineAt } from '../install/machine.js';
import { platforms } from '../install/platform.js';
import { type Output, Steps } from '../install/steps.js';
import { anyFile, given, givenNode, mustWrite, nodeOptions, summary, texts, withRemedy } from './node-options.js';

const defaultConfirmWithin = '2m';

const installOptions = texts({
  platform: {
    describe: `Where the kubelet's endpoint is set: ${platforms.join(', ')} (install all but the endpoint)`,
    defaultDescription: 'auto',
  },
  stage: {
    describe: `Only these, with commas between them: ${stages.join(', ')}`,
    defaultDescription: usualStages.join(','),
  },
  ...nodeOptions,
  'confirm-within': {
    describe:
      'How soon the kubelet has to be seen to do well behind Holdfast, or a new Holdfast; else it is taken back',
    defaultDescription: defaultConfirmWithin,
  },
  'retry-after': {
    describe: 'How long a switch or upgrade that was taken back is not tried again; for what runs this again and again',
    defaultDescription: '0s',
  },
  config: {
    describe: 'A configuration to install, in the place of one that was installed and has not been changed since',
    defaultDescription: 'that of this program, where there is none',
  },
  node: { describe: 'The node binary to install', defaultDescription: 'the one that runs this' },
  program: { describe: 'The one-file program to install', defaultDescription: 'this one' },
  units: { describe: 'Folder with the unit files to install', defaultDescription: 'those of this program' },
});

export function installCommand(stdout: Output): CommandModule {
  return {
    command: 'install',
    describe:
      'Put Holdfast on this node and the kubelet behind it; it comes back by itself if it does not do well there',
    builder: (yargs) =>
      yargs
        .options({
          ...installOptions,
          'dry-run': { type: 'boolean', describe: 'Say what would be done, and do nothing' },
          'accept-unsupported': {
            type: 'boolean',
            describe: 'Also on a node whose vendor does not want its kubelet changed',
          },
        })
        .epilogue(
          'Each step says whether it was done or was so already: run it again after an upgrade or in doubt. The way back is ' +
            'holdfast uninstall. Exit codes: 0 done, 1 refused, failed or taken back, 2 not understood.',
        ),
    async handler(argv) {
      const { root, ...node } = givenNode(argv);
      const steps = new Steps(stdout, argv['dry-run'] === true);
      const within = given(argv, 'confirm-within', duration('5s', '1h')) ?? parseDuration(defaultConfirmWithin);
      const options = {
        ...node,
        platform: given(argv, 'platform', choice(...platforms)) ?? ('auto' as const),
        stages: given(argv, 'stage', listOf(choice(...stages))) ?? usualStages,
        confirmWithinMs: within ?? 0,
        retryAfterMs: given(argv, 'retry-after', duration('0s', '720h')) ?? 0,
        config: given(argv, 'config', anyFile),
        node: given(argv, 'node', anyFile),
        program: given(argv, 'program', anyFile),
        units: given(argv, 'units', directory),
        acceptUnsupported: argv['accept-unsupported'] === true,
      };
      if (!steps.dryRun) mustWrite(root);
      try {
        await install(machineAt(root), steps, options);
      } catch (error) {
        throw withRemedy(error);
      }
      stdout.write(summary(steps, 'installed'));
    },
  };
}

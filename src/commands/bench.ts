/** `holdfast bench`: pods of a scenario, straight to a runtime and through Holdfast, and what comes of it, side by side. */
import { accessSync, constants as fsConstants, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import path from 'node:path';
import type { CommandModule } from 'yargs';
import { ConfigError } from '../config/config-error.js';
import { type Completions, count, endpoint, type Kind } from '../config/kinds.js';
import { type ArmState, runBench } from '../harness/bench/bench.js';
import { RealRuntime } from '../harness/bench/real-runtime.js';
import {
  type ArmName,
  armList,
  armNames,
  podCount,
  readScenario,
  type Scenario,
  shippedScenarios,
} from '../harness/bench/scenario.js';
import { reportHtml } from '../harness/report/html.js';
import { Progress, type ProgressStream } from '../harness/report/progress.js';
import { reportTable } from '../harness/report/table.js';

/** Where text goes: tables to stdout, what happens meanwhile to stderr. */
interface Output {
  write(text: string): unknown;
}

const anyText: Kind<string> = { allowed: 'a text', parse: (text) => (text === '' ? undefined : text) };

/** A file that can be written, so that no run ends without its result. */
const outputFile: Kind<string> = {
  allowed: 'a file in a directory that can be written to',
  parse(text) {
    try {
      accessSync(path.dirname(path.resolve(text)), fsConstants.W_OK);
      return text === '' ? undefined : text;
    } catch {
      return undefined;
    }
  },
};

const nothing: Completions = { values: [], files: false };
const someFile: Completions = { values: [], files: true };

const benchOptions = {
  scenario: {
    kind: anyText,
    completions: { values: shippedScenarios(), files: true },
    describe: 'Name of a scenario, or a YAML file with one',
    default: 'slow-cni',
  },
  arms: {
    kind: armList,
    completions: { values: [...armNames, 'strategies'], files: false },
    describe:
      'What is compared: direct, holdfast, holdfast-off (without admission), holdfast-no-psi (which knows of no pressure), ' +
      'containerd, crio-remove, crio-store (straight to a simulated runtime of that kind), or strategies for all ways to ' +
      'treat what comes too late',
    default: "the scenario's",
  },
  pods: { kind: podCount, describe: 'How many pods', default: "the scenario's" },
  seed: { kind: count(0, 2 ** 32 - 1), describe: 'Gives the same arrivals and failures each time', default: '1' },
  repeat: { kind: count(1, 100), describe: 'How often each arm runs; figures are medians', default: '1' },
  json: { kind: outputFile, completions: someFile, describe: 'File for the figures', default: 'none' },
  html: {
    kind: outputFile,
    completions: someFile,
    describe: 'File for a page with timelines, curves and figures',
    default: 'none',
  },
  runtime: {
    kind: endpoint,
    completions: someFile,
    describe:
      'Unix socket of a real runtime to run the pods on, unix:///run/containerd/containerd.sock; all are removed again',
    default: 'a simulated one',
  },
  image: { kind: anyText, describe: 'Image of the pods on a real runtime', default: "the runtime's pause image" },
} as const satisfies Record<string, BenchOption>;

interface BenchOption {
  readonly kind: Kind<unknown>;
  readonly completions?: Completions;
  readonly describe: string;
  readonly default: string;
}

type OptionName = keyof typeof benchOptions;

const realArms: readonly ArmName[] = ['direct', 'holdfast'];

export const benchCommand: CommandModule = {
  builder(yargs) {
    for (const [name, option] of Object.entries<BenchOption>(benchOptions)) {
      yargs.option(name, {
        ...{ completions: option.completions ?? nothing },
        type: 'string',
        requiresArg: true,
        describe: option.describe,
        defaultDescription: option.default,
      });
    }
    return yargs
      .option('yes-this-node', { type: 'boolean', describe: 'Run on a real runtime even if a kubelet uses it' })
      .epilogue(
        `Scenarios: ${shippedScenarios().join(', ')}. Exit codes: 0 when done, 1 if it could not be run, 2 if it was told ` +
          'something it does not understand, 130 after Ctrl-C. It removes all it made in each case.',
      );
  },
  async handler(argv) {
    const interrupted = new AbortController();
    const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
    // A second one changes nothing: the end is near, and what is not removed now stays.
    const interrupt = (name: NodeJS.Signals) => interrupted.abort(name);
    for (const name of signals) process.on(name, interrupt);
    // Who reads no further (a pipe into head) must not keep it from cleaning up.
    for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);
    try {
      await bench(argv, process, interrupted.signal);
    } catch (error) {
      if (!interrupted.signal.aborted) throw error;
      process.stderr.write('holdfast: interrupted; all that was made is removed\n');
      process.exitCode = 128 + constants.signals[interrupted.signal.reason as (typeof signals)[number]];
    } finally {
      for (const name of signals) process.off(name, interrupt);
    }
  },
};

/** @throws {ConfigError} An option or a field of the scenario is wrong. */
async function bench(
  argv: Readonly<Record<string, unknown>>,
  { stdout, stderr }: { readonly stdout: Output; readonly stderr: ProgressStream },
  signal: AbortSignal,
): Promise<void> {
  const given = <T>(name: OptionName, kind: Kind<T>): T | undefined => optionValue(name, argv[name], kind);
  const socketPath = given('runtime', benchOptions.runtime.kind);
  const image = given('image', benchOptions.image.kind);
  if (image !== undefined && socketPath === undefined) throw new ConfigError('--image means nothing without --runtime');
  const asked = readScenario(given('scenario', benchOptions.scenario.kind) ?? benchOptions.scenario.default);
  const scenario = { ...asked, pods: given('pods', benchOptions.pods.kind) ?? asked.pods };
  checkPods(scenario);
  if (socketPath !== undefined) checkReal(scenario);
  const arms = armsOf(given('arms', benchOptions.arms.kind), scenario, socketPath !== undefined);
  const seed = given('seed', benchOptions.seed.kind) ?? 1;
  const repeats = given('repeat', benchOptions.repeat.kind) ?? 1;
  const json = given('json', benchOptions.json.kind);
  const html = given('html', benchOptions.html.kind);
  const runtime =
    socketPath === undefined
      ? undefined
      : await RealRuntime.connect({
          socketPath,
          image,
          kubeletToo: argv['yes-this-node'] === true,
          warn: (text) => stderr.write(`holdfast: ${text}\n`),
        });
  const bars = new Progress(stderr);
  if (!stderr.isTTY) stderr.write(beginning(scenario, arms, repeats, runtime !== undefined));
  const onProgress = ({ arm, repeat, isOver, ...state }: ArmState) => {
    const bar = repeats > 1 ? `${arm} ${repeat}` : arm;
    bars.update(bar, { ...state, pods: scenario.pods, watchMs: scenario.watchMs });
    if (isOver) bars.end(bar);
  };
  try {
    const report = await runBench({ scenario, arms, seed, repeats, runtime, onProgress }, signal);
    bars.stop();
    stdout.write(`${reportTable(report)}\n`);
    if (json !== undefined) writeFileSync(json, `${JSON.stringify(report, null, 2)}\n`);
    if (html !== undefined) writeFileSync(html, reportHtml(report));
  } finally {
    bars.stop();
    runtime?.close();
  }
}

/** So that who looks at a file or a pipe knows at once what is going on, and for how long. */
function beginning(
  { name, pods, watchMs, sideBySide }: Scenario,
  arms: readonly ArmName[],
  repeats: number,
  isReal: boolean,
): string {
  const times = repeats > 1 ? `, ${repeats} times` : '';
  const longestMs = watchMs * repeats * (sideBySide && !isReal ? 1 : arms.length);
  return `${name}: ${pods} pods, ${arms.join(', ')}${times}; takes up to ${Math.ceil(longestMs / 1000)} s and some more to clean up\n`;
}

function armsOf(asked: readonly ArmName[] | undefined, { arms }: Scenario, isReal: boolean): readonly ArmName[] {
  if (!isReal) return asked ?? arms;
  const foreign = asked?.find((name) => !realArms.includes(name));
  if (foreign === undefined) return asked ?? realArms;
  throw new ConfigError(`--arms: ${foreign} is simulated; with --runtime give one of ${realArms.join(', ')}`);
}

function checkPods({ pods, kubelet: { critical, static: statics } }: Scenario): void {
  const [first, others] = [critical?.pods ?? 0, statics?.pods ?? 0];
  if (first + others <= pods) return;
  const what = [first > 0 ? `${first} critical` : [], others > 0 ? `${others} static` : []].flat().join(' and ');
  throw new ConfigError(`--pods: ${pods} are fewer than the scenario's ${what} pods`);
}

function checkReal({ name, kubelet: { exits, initContainers } }: Scenario): void {
  if (exits === undefined && initContainers === undefined) return;
  throw new ConfigError(`--runtime: containers of ${name} end by themselves, which only simulated ones do`);
}

function optionValue<T>(name: string, given: unknown, kind: Kind<T>): T | undefined {
  if (given === undefined) return undefined;
  if (Array.isArray(given))
    throw new ConfigError(`--${name}: ${JSON.stringify(given)} are ${given.length} values; give it once`);
  const value = typeof given === 'string' ? kind.parse(given) : undefined;
  if (value !== undefined) return value;
  throw new ConfigError(
    given === false
      ? `unknown option --no-${name}`
      : `--${name}: ${JSON.stringify(given)} is not allowed; give ${kind.allowed}`,
  );
}

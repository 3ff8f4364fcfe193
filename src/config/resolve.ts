/** Combines command line, environment, config file and defaults, in this order, into one checked configuration. */
import type { HoldfastConfig } from './config.js';
import { ConfigError } from './config-error.js';
import { readConfigFile } from './file.js';
import { flag } from './kinds.js';
import { configOption, environmentName, type Option, options } from './options.js';
import { isSameSocket } from './same-socket.js';
import { unknownVariables } from './unknown-variables.js';

export interface Sources {
  /** As yargs parsed it: option names to texts, an array where one was repeated, false for `--no-` before a name. */
  readonly argv: Readonly<Record<string, unknown>>;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The socket that a service manager has passed: `listen`, which then is its path or left out. Undefined path: it is not to be seen. */
  readonly passed?: { readonly path: string | undefined } | undefined;
  /** One will be passed, and which is not known yet: nobody misses `listen`. */
  readonly willBePassed?: boolean;
}

interface Given {
  /** Where it stands, as the one who wrote it would say: `--hold-ttl`, HOLDFAST_HOLD_TTL, `hold-ttl in FILE`. */
  readonly source: string;
  readonly value: unknown;
}

/** Stands for one that is not known yet; the units' own, so that nobody has it for something else. */
const anySocket = '/run/holdfast/holdfast.sock';

/**
 * @returns Frozen and complete.
 * @throws {ConfigError} A value is refused or missing, a key of the file is unknown, or two values do not go together.
 */
export function resolveConfig(sources: Sources): HoldfastConfig {
  const file = fileOf(sources);
  const passedPath = sources.passed?.path;
  const socket = passedPath ?? (sources.willBePassed === true ? anySocket : undefined);
  const passed = (name: string) =>
    name === options.listen.name && socket !== undefined ? { source: 'the passed socket', value: socket } : undefined;
  const config = Object.fromEntries(
    Object.entries(options).map(([key, option]: [string, Option<unknown>]) => {
      const given =
        fromCommandLine(sources, option.name) ??
        fromEnvironment(sources, option.name) ??
        file(option.name) ??
        passed(option.name);
      return [key, settingOf(option, given, sources)];
    }),
  ) as unknown as HoldfastConfig;
  checkLimits(config);
  if (passedPath !== undefined && !isSameSocket(config.listen, passedPath)) {
    throw new ConfigError(`--listen ${config.listen} is not the socket that was passed, ${passedPath}: leave it out`);
  }
  if (isSameSocket(config.listen, config.runtime)) {
    throw new ConfigError(
      `--listen ${config.listen} and --runtime ${config.runtime} are the same socket: Holdfast would be its own runtime`,
    );
  }
  for (const [name, socket] of [['listen', config.listen] as const, ['runtime', config.runtime] as const]) {
    if (config.admin !== undefined && isSameSocket(config.admin, socket)) {
      throw new ConfigError(`--admin ${config.admin} and --${name} ${socket} are the same socket`);
    }
  }
  if (config.adminGroup !== undefined && config.admin === undefined) {
    throw new ConfigError(`--admin-group ${config.adminGroup} means nothing without --admin`);
  }
  return Object.freeze(config);
}

function checkLimits(config: HoldfastConfig): void {
  const { maxCreations, minCreations = 1, startCreations = maxCreations, creationRate, creationBurst } = config;
  const limits = { 'min-creations': minCreations, 'start-creations': startCreations, 'max-creations': maxCreations };
  const [min, start, max] = Object.entries(limits).map(([name, value]) => `--${name} ${value}`);
  if (minCreations > maxCreations) throw new ConfigError(`${min} is more than ${max}`);
  if (startCreations < minCreations) throw new ConfigError(`${start} is less than ${min}`);
  if (startCreations > maxCreations) throw new ConfigError(`${start} is more than ${max}`);
  if (creationBurst !== undefined && creationRate === undefined) {
    throw new ConfigError(`--creation-burst ${creationBurst} means nothing without --creation-rate`);
  }
}

function fromCommandLine({ argv }: Sources, name: string): Given | undefined {
  const value = argv[name];
  if (value === undefined) return undefined;
  if (value !== false) return { source: `--${name}`, value };
  if (!Object.values<Option<unknown>>(options).some((option) => option.name === name && option.kind === flag))
    throw new ConfigError(`unknown option --no-${name}`);
  return { source: `--no-${name}`, value: 'false' };
}

/** An empty variable counts as not set, as it does for whoever writes `HOLDFAST_METRICS=` into an environment file. */
function fromEnvironment({ env }: Sources, name: string): Given | undefined {
  const source = environmentName(name);
  const value = env[source];
  return value === undefined || value === '' ? undefined : { source, value };
}

function fileOf(sources: Sources): (name: string) => Given | undefined {
  const given = fromCommandLine(sources, configOption.name) ?? fromEnvironment(sources, configOption.name);
  if (given === undefined) return () => undefined;
  const path = textOf(given, false);
  if (path === undefined || path === '') throw refused(given, 'the path of a YAML or JSON file');
  const known = Object.values(options).map((option) => option.name);
  const content = readConfigFile(path, given.source, known);
  return (name) => (content.has(name) ? { source: `${name} in ${path}`, value: content.get(name) } : undefined);
}

function settingOf(option: Option<unknown>, given: Given | undefined, { env, passed }: Sources): unknown {
  if (given === undefined) {
    if (option.default !== undefined) return option.kind.parse(option.default);
    if (option.required !== true) return undefined;
    const variable = environmentName(option.name);
    const mistyped = unknownVariables(env).find(({ nearest }) => nearest === variable)?.variable;
    throw new ConfigError(
      `--${option.name} is missing: give ${option.kind.allowed} ` +
        `(or set ${variable}, or ${option.name} in the --config file)` +
        (mistyped === undefined ? '' : `; ${mistyped} is set: did you mean ${variable}?`) +
        (passed === undefined || option.name !== options.listen.name ? '' : passedUnseen),
    );
  }
  const text = textOf(given, option.repeatable === true);
  const value = text === undefined ? undefined : option.kind.parse(text);
  if (value === undefined) throw refused(given, option.kind.allowed);
  return value;
}

const passedUnseen =
  '; a socket was passed, but its path is not to be seen, as where the service has a network of its own (PrivateNetwork=)';

/** @returns undefined where the file has a mapping or a list in place of a text. */
function textOf(given: Given, repeatable: boolean): string | undefined {
  if (typeof given.value === 'string') return given.value;
  if (!Array.isArray(given.value) || !given.value.every((item) => typeof item === 'string')) return undefined;
  if (repeatable) return given.value.join(',');
  if (!given.source.startsWith('-')) return undefined;
  throw new ConfigError(`${given.source}: ${shown(given.value)} are ${given.value.length} values; give it once`);
}

function refused({ source, value }: Given, allowed: string): ConfigError {
  return new ConfigError(`${source}: ${shown(value)} is not allowed; give ${allowed}`);
}

/** One line, whatever the value is. */
function shown(value: unknown): string {
  const text = JSON.stringify(value instanceof Map ? Object.fromEntries(value) : value);
  return text.length > 200 ? `${text.slice(0, 200)}…` : text;
}

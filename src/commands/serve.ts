/** `holdfast serve`: from options to a running proxy and, on a signal, to its orderly end. */
import { type DestinationStream, type Logger, pino, stdTimeFunctions } from 'pino';
import type { Registry } from 'prom-client';
import type { CommandModule } from 'yargs';
import type { Endpoints } from '../admin/endpoints.js';
import type { Served } from '../admin/routes.js';
import { systemClock } from '../clock.js';
import type { HoldfastConfig } from '../config/config.js';
import type { Completions } from '../config/kinds.js';
import { configOption, type Option, options } from '../config/options.js';
import { resolveConfig } from '../config/resolve.js';
import { unknownVariables } from '../config/unknown-variables.js';
import { version } from '../config/version.js';
import type { CallTraces } from '../proxy/call-traces.js';
import { logOutput } from './log-output.js';

/** Environment variables by name; those that a service manager set for this process alone are taken out. */
export type Environment = Record<string, string | undefined>;

export function serveCommand(
  env: Environment,
  stdout: { write(text: string): unknown } = process.stdout,
): CommandModule {
  return {
    command: 'serve',
    describe: 'Stand between the kubelet and its container runtime',
    builder(yargs) {
      for (const option of [...Object.values<Option<unknown>>(options), configOption]) {
        yargs.option(option.name, {
          type: 'string',
          requiresArg: true,
          group: `${option.group}:`,
          describe: option.description,
          ...('kind' in option ? { ...shownDefault(option), completions: option.kind.completions ?? nothing } : {}),
        });
      }
      yargs.option('dry-run', {
        type: 'boolean',
        describe:
          'Read the configuration, say whether it is understood, and do nothing. A socket may be passed, so that none is missed',
      });
      return yargs.epilogue(
        'Durations are written 250ms, 90s, 5m, 1h30m; sockets unix:///p, unix:p or /p. An option given here wins over ' +
          'its environment variable (--hold-ttl is HOLDFAST_HOLD_TTL, empty counts as not set), that over the config ' +
          'file, that over the default. Exit codes: 0 after an orderly end, 1 if Holdfast could not start or failed, 2 ' +
          'if it was told something it does not understand.\n\nExample: holdfast serve ' +
          '--listen unix:///run/holdfast/holdfast.sock --runtime unix:///run/containerd/containerd.sock',
      );
    },
    async handler(argv) {
      if (argv['dry-run'] === true) {
        resolveConfig({ argv, env, willBePassed: true });
        stdout.write('the configuration is understood\n');
        return;
      }
      const passed =
        env.LISTEN_FDS === undefined
          ? undefined
          : (await import('../proxy/passed-socket.js')).takePassedSocket(env, process.pid);
      const config = resolveConfig({ argv, env, passed });
      const output = logOutput(process.stdout);
      const log = createLog(config.logLevel, output);
      for (const unknown of unknownVariables(env))
        log.warn(unknown, 'a variable of the environment is no option of Holdfast');
      output.onLost = (lines) => log.warn({ lines }, 'log lines lost: nobody took them');
      const [{ startHoldfast }, { warmUp }, { Metrics }] = await Promise.all([
        import('../proxy/holdfast.js'),
        import('../proxy/warm-up.js'),
        import('../admin/metrics.js'),
      ]);
      const metrics = new Metrics();
      const start = async () => {
        const { traces, closing } = await tracesOf(config, log);
        const holdfast = await startHoldfast(config, { log, metrics, passed, traces });
        warmUp(systemClock).catch((error) => log.warn({ error: String(error) }, 'warm-up failed'));
        if (env.NOTIFY_SOCKET === undefined) return { served: holdfast, close: closing(() => holdfast.close()) };
        const { announce } = await import('../systemd/service.js');
        const { close } = announce(holdfast, env, { config, log, clock: systemClock });
        return { served: holdfast, close: closing(close) };
      };
      const host: Host = {
        on: (event, listener) => process.on(event, listener),
        off: (event, listener) => process.off(event, listener),
        exit: (code) => void output.ended().then(() => process.exit(code)),
      };
      try {
        await serve(config, { log, registry: metrics.registry, start, host });
      } catch (error) {
        throw await naming('listen', error);
      } finally {
        await output.ended();
      }
    },
  };
}

/** What is wrong with a path is said with the option that it is of. */
async function naming(option: string, error: unknown): Promise<unknown> {
  const { ListenError } = await import('../proxy/listen.js');
  return error instanceof ListenError ? new Error(`--${option}: ${error.message}`, { cause: error }) : error;
}

/** How long the last spans may take at the end, in ms: meanwhile calls wait for the next process. */
const lastSpansMs = 1_000;

interface Traced {
  readonly traces?: CallTraces;
  /** @returns A close that sends the last spans after `close`, within the time that a drain may take. */
  closing(close: () => Promise<void>): () => Promise<void>;
}

async function tracesOf({ otlp: url, replayTtlMs, drainTimeoutMs }: HoldfastConfig, log: Logger): Promise<Traced> {
  if (url === undefined) return { closing: (close) => close };
  const { openOtlp } = await import('../tracing/otlp.js');
  const clock = systemClock;
  const otlp = await openOtlp({ url, version, replayTtlMs, log, clock });
  return {
    traces: otlp.traces,
    closing: (close) => async () => {
      const endMs = clock.now() + drainTimeoutMs;
      await close();
      await otlp.close(Math.min(lastSpansMs, Math.max(0, endMs - clock.now())));
    },
  };
}

const nothing: Completions = { values: [], files: false };

function shownDefault({ default: value, defaultText }: Option<unknown>): { readonly defaultDescription?: string } {
  const text = defaultText !== undefined && value ? `${defaultText}, here ${value}` : (defaultText ?? value);
  return text === undefined ? {} : { defaultDescription: text };
}

/** JSON lines with the level in words and the time in ISO 8601. */
export function createLog(level: HoldfastConfig['logLevel'], stream: DestinationStream): Logger {
  const formatters = { level: (label: string) => ({ level: label }) };
  return pino({ level, timestamp: stdTimeFunctions.isoTime, formatters }, stream);
}

/** What `serve` needs of the process it runs in. */
interface Host {
  on(event: string, listener: (value: unknown) => void): unknown;
  off(event: string, listener: (value: unknown) => void): unknown;
  exit(code: number): void;
}

export interface ServeDependencies {
  readonly log: Logger;
  readonly registry: Registry;
  /** Starts the proxy; `close` drains it within `drainTimeoutMs`. */
  start(): Promise<{ readonly served: Served; close(): Promise<void> }>;
  readonly host: Host;
}

/**
 * Serves until SIGTERM or SIGINT, then drains; metrics and the admin endpoint are served to the end. A second signal exits at once with
 * code 1, and so does anything thrown that nobody caught.
 *
 * @throws What kept the proxy from starting.
 */
export async function serve(config: HoldfastConfig, { log, registry, start, host }: ServeDependencies): Promise<void> {
  const die = (error: unknown) => {
    log.fatal({ err: error }, 'uncaught error');
    host.exit(1);
  };
  let stop: (signal: unknown) => void = () => {};
  const stopped = new Promise<unknown>((resolve) => {
    stop = resolve;
  });
  let signals = 0;
  const onSignal = (signal: unknown) => {
    signals += 1;
    if (signals > 1) host.exit(1);
    stop(signal);
  };
  const listeners = [
    ['SIGTERM', onSignal],
    ['SIGINT', onSignal],
    ['uncaughtException', die],
    ['unhandledRejection', die],
  ] as const;
  for (const [event, listener] of listeners) host.on(event, listener);

  let endpoints: Endpoints | undefined;
  try {
    const { served, close } = await start();
    log.info({ version, config }, 'serving');
    // The kubelet does not wait for them.
    if (config.admin !== undefined || config.metrics !== undefined) {
      const { openEndpoints } = await import('../admin/endpoints.js');
      const { listen, runtime } = config;
      const facts = { version, node: process.version, pid: process.pid, listen, runtime };
      endpoints = await openEndpoints(config, { log, clock: systemClock, registry, facts, served });
    }
    const signal = await stopped;
    log.info({ signal, drainTimeoutMs: config.drainTimeoutMs }, 'draining');
    await close();
    log.info('stopped');
  } finally {
    await endpoints?.close();
    for (const [event, listener] of listeners) host.off(event, listener);
  }
}

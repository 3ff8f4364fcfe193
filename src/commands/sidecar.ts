/** `holdfast sidecar`: metrics and health over TCP, from the admin socket of a Holdfast on the node. */
import type { CommandModule } from 'yargs';
import { Sidecar } from '../admin/sidecar.js';
import { systemClock } from '../clock.js';
import { ConfigError } from '../config/config-error.js';
import { address, duration, type Kind, orOff } from '../config/kinds.js';
import { adminSocketOf, withAdminOption } from './admin-option.js';
import { logOutput } from './log-output.js';
import { createLog } from './serve.js';

/** A kubelet whose question hangs asks again after two minutes. */
const defaultCheck = '150s';

export const sidecarCommand: Pick<CommandModule, 'builder' | 'handler'> = {
  builder(yargs) {
    return withAdminOption(yargs)
      .option('metrics', {
        type: 'string',
        requiresArg: true,
        describe: `Where to serve /metrics, /healthz and /readyz: ${address.allowed}`,
      })
      .option('kubelet-check', {
        type: 'string',
        requiresArg: true,
        describe: 'A kubelet that has not called for so long is not behind Holdfast; off: it is not looked for',
        defaultDescription: defaultCheck,
      })
      .epilogue(
        'It only asks: nothing on the node is changed. Exit codes: 0 after an orderly end, 1 if it cannot listen, 2 not understood.',
      );
  },
  async handler(argv) {
    const check = settingOf('kubelet-check', argv['kubelet-check'] ?? defaultCheck, orOff(duration('10s', '24h')));
    const options = {
      admin: adminSocketOf(argv),
      metrics: settingOf('metrics', argv.metrics, address),
      kubeletCheckMs: check,
    };
    const output = logOutput(process.stdout);
    const log = createLog('info', output);
    const sidecar = new Sidecar(options, systemClock, log);
    const stopped = new Promise((resolve) => {
      for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, resolve);
    });
    await sidecar.start();
    log.info({ ...options }, 'serving');
    await stopped;
    await sidecar.close();
    await output.ended();
  },
};

/** @throws {ConfigError} */
function settingOf<T>(name: string, given: unknown, kind: Kind<T>): T {
  const value = typeof given === 'string' ? kind.parse(given) : undefined;
  if (value !== undefined) return value;
  const what = given === undefined ? 'is missing' : `: ${JSON.stringify(given)} is not allowed`;
  throw new ConfigError(`--${name}${given === undefined ? ' ' : ''}${what}; give ${kind.allowed}`);
}

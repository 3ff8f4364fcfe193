/** Whether the kubelet is well: its unit runs, and its own /healthz says so. */
import http from 'node:http';
import type { KubeletConfig } from './kubelet-config.js';
import { type Machine, pause } from './machine.js';
import { unitState } from './systemctl.js';

/** Source: KubeletConfiguration v1beta1, `healthzPort`, `healthzBindAddress`. */
const defaultHealthz = { port: 10_248, host: '127.0.0.1' };
const healthzTimeoutMs = 3_000;
const lookEachMs = 500;

/** Asks a kubelet's /healthz. @returns `ok`, or what it says instead. */
export type AskHealthz = (host: string, port: number) => Promise<string>;

export interface Health {
  /** undefined: it is well. */
  readonly trouble: string | undefined;
  /** Of this run of its unit; another one after each start. */
  readonly invocation: string;
}

export async function kubeletHealth(
  machine: Machine,
  unit: string,
  config: KubeletConfig,
  ask: AskHealthz,
): Promise<Health> {
  const state = await unitState(machine, unit, 'ActiveState', 'SubState', 'InvocationID');
  const invocation = state.InvocationID;
  if (state.ActiveState !== 'active' || state.SubState !== 'running') {
    return { trouble: `${unit} is ${state.ActiveState} (${state.SubState})`, invocation };
  }
  const port = typeof config.healthzPort === 'number' ? config.healthzPort : defaultHealthz.port;
  // 0: it serves none.
  if (port === 0) return { trouble: undefined, invocation };
  const said = typeof config.healthzBindAddress === 'string' ? config.healthzBindAddress : '';
  const host = said === '0.0.0.0' || said === '' ? defaultHealthz.host : said === '::' ? '::1' : said;
  const answer = await ask(host, port);
  return { trouble: answer === 'ok' ? undefined : `its /healthz on ${host}:${port}: ${answer}`, invocation };
}

/** @returns undefined once it is well, or what is wrong when the time is over. */
export async function waitUntilHealthy(
  machine: Machine,
  look: () => Promise<Health>,
  withinMs: number,
): Promise<string | undefined> {
  const until = machine.clock.now() + withinMs;
  for (;;) {
    const { trouble } = await look();
    if (trouble === undefined || machine.clock.now() >= until) return trouble;
    await pause(machine, lookEachMs);
  }
}

export const askHealthz: AskHealthz = (host, port) =>
  new Promise((resolve) => {
    const request = http.get({ host, port, path: '/healthz', timeout: healthzTimeoutMs, agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        text += chunk;
      });
      response.on('end', () =>
        resolve(response.statusCode === 200 ? 'ok' : `${response.statusCode} ${text.trim().slice(0, 200)}`),
      );
      response.on('error', (error) => resolve(error.message));
    });
    request.on('timeout', () => request.destroy(new Error('no answer')));
    request.on('error', (error) => resolve(error.message));
  });

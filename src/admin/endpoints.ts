/**
 * The admin socket and the metrics address of a running Holdfast. A node must not lose its pods since one of them cannot be opened: that
 * is logged and tried again, and the proxy goes on.
 */
import { readFileSync } from 'node:fs';
import type { Logger } from 'pino';
import type { Registry } from 'prom-client';
import type { Clock } from '../clock.js';
import type { HoldfastConfig } from '../config/config.js';
import { type HttpEndpoint, type Routes, serveHttp, type Where } from './http.js';
import { LogLevel } from './log-level.js';
import { debugRoutes, type Facts, publicRoutes, type Served } from './routes.js';

/** How long until it is tried again, in ms. */
const retryMs = 10_000;

export interface EndpointsDeps {
  readonly log: Logger;
  readonly clock: Clock;
  readonly registry: Registry;
  readonly facts: Facts;
  readonly served: Served;
}

export interface Endpoints {
  close(): Promise<void>;
}

/** Resolves when each has been opened, or tried for the first time. Never rejects. */
export async function openEndpoints(
  { admin, adminGroup, metrics }: Pick<HoldfastConfig, 'admin' | 'adminGroup' | 'metrics'>,
  { log, clock, registry, facts, served }: EndpointsDeps,
): Promise<Endpoints> {
  const source = { registry, served };
  const logLevel = new LogLevel(log, clock);
  const kept = [
    ...(metrics === undefined ? [] : [new Kept(() => metrics, publicRoutes(source), log, clock)]),
    ...(admin === undefined
      ? []
      : [
          new Kept(
            () => ({ path: admin, gid: gidOf(adminGroup) }),
            debugRoutes(source, facts, logLevel, clock),
            log,
            clock,
          ),
        ]),
  ];
  await Promise.all(kept.map((each) => each.open()));
  return {
    async close() {
      logLevel.reset();
      await Promise.all(kept.map((each) => each.close()));
    },
  };
}

/** One endpoint that is opened as soon as that is possible. */
class Kept {
  readonly #where: () => Where;
  readonly #routes: Routes;
  readonly #log: Logger;
  readonly #clock: Clock;
  #endpoint: HttpEndpoint | undefined;
  #hasFailed = false;
  #isClosed = false;
  #cancelRetry = (): void => {};

  constructor(where: () => Where, routes: Routes, log: Logger, clock: Clock) {
    this.#where = where;
    this.#routes = routes;
    this.#log = log;
    this.#clock = clock;
  }

  async open(): Promise<void> {
    try {
      const endpoint = await serveHttp(this.#where(), this.#routes);
      if (this.#isClosed) return endpoint.close();
      this.#endpoint = endpoint;
      if (this.#hasFailed) this.#log.info('an endpoint that could not be opened is open now');
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      if (!this.#hasFailed)
        this.#log.error({ error: why, retryMs }, 'an endpoint cannot be opened; the proxy goes on without');
      this.#hasFailed = true;
      if (!this.#isClosed) this.#cancelRetry = this.#clock.after(retryMs, () => void this.open());
    }
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#cancelRetry();
    await this.#endpoint?.close();
  }
}

/**
 * @param group A name or a number.
 * @throws There is no such group on this machine.
 */
function gidOf(group: string | undefined): number | undefined {
  if (group === undefined) return undefined;
  if (/^\d+$/.test(group)) return Number(group);
  for (const line of readFileSync('/etc/group', 'utf8').split('\n')) {
    const [name, , gid] = line.split(':');
    if (name === group) return Number(gid);
  }
  throw new Error(`--admin-group: there is no group ${group} in /etc/group`);
}

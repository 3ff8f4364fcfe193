/** What a service under systemd says of itself: that it is ready, that it lives, and that it is about to end. */
import type { Logger } from 'pino';
import type { Clock } from '../clock.js';
import type { HoldfastConfig } from '../config/config.js';
import { lookAtHealth } from './health.js';
import { systemdNotify, takeNotifySettings } from './notify.js';
import { feedWatchdog } from './watchdog.js';

interface Closable {
  close(): Promise<void>;
}

interface ServiceDeps {
  readonly config: Pick<HoldfastConfig, 'listen' | 'runtime'>;
  readonly log: Logger;
  readonly clock: Clock;
}

/**
 * Says that the proxy is ready, and goes on saying that it lives.
 *
 * @param env What systemd has set in it for this process is taken out.
 * @returns The proxy, which says that it ends when it is closed.
 */
export function announce(proxy: Closable, env: Record<string, string | undefined>, deps: ServiceDeps): Closable {
  const settings = takeNotifySettings(env, process.pid);
  if (settings === undefined) return proxy;
  const { config, log, clock } = deps;
  const { socket, watchdogMs } = settings;
  const { listen, runtime } = config;
  const notify = systemdNotify(socket, log);
  void notify('READY=1', `STATUS=serving ${listen} for ${runtime}`);
  const look = (limitMs: number) => lookAtHealth({ listen, runtime, clock }, limitMs);
  const stop = watchdogMs === undefined ? () => {} : feedWatchdog(watchdogMs, { clock, log, notify, look });
  return {
    async close() {
      stop();
      const told = notify('STOPPING=1', 'STATUS=draining');
      await proxy.close();
      await told;
    },
  };
}

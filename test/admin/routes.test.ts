import type { ServerResponse } from 'node:http';
import { pino } from 'pino';
import { Registry } from 'prom-client';
import t from 'tap';
import { LogLevel } from '../../src/admin/log-level.js';
import { debugRoutes, type Served, type Summary } from '../../src/admin/routes.js';
import { ManualClock } from '../support/manual-clock.js';

t.test('uptime goes on where the clock of the node is set back or ahead', async (t) => {
  const clock = new ManualClock();
  const served = {
    inspection: { summary: () => ({}) },
    connections: 0,
    runtimeHealth: async () => ({ answers: true }),
  } as unknown as Served;
  const facts = { version: '1', node: 'v24', pid: 1, listen: '/l', runtime: '/r' };
  let dateMs = Date.parse('2026-11-28T12:00:00Z');
  const source = { registry: new Registry(), served };
  const routes = debugRoutes(source, facts, new LogLevel(pino({ enabled: false }), clock), clock, () => dateMs);
  const summary = async (): Promise<Summary> => {
    let text = '';
    const response = { writeHead: () => response, end: (body: string) => (text = body) } as unknown as ServerResponse;
    const call = { response, query: new URLSearchParams(), signal: new AbortController().signal };
    await routes['/debug/summary']?.GET?.({ ...call, body: async () => '', idleFor: () => {} });
    return JSON.parse(text);
  };
  await clock.skip(90_000);
  dateMs -= 5 * 3_600_000;
  t.match(await summary(), { uptimeMs: 90_000, startedAt: '2026-11-28T06:58:30.000Z' });
  dateMs += 48 * 3_600_000;
  t.match(await summary(), { uptimeMs: 90_000, startedAt: '2026-11-30T06:58:30.000Z' });
});

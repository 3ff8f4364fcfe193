/**
 * `npm run bench:wire`: what a call costs directly, through haproxy, nginx and Holdfast, with the same client, the same
 * backend and in one run, the four taking turns. Needs Debian's nghttp2-client, haproxy and nginx.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { largePath, smallPath, startBackend } from './wire/backends.js';
import { h2load, type Load, type Measured } from './wire/load.js';
import type { Server } from './wire/processes.js';
import { startHaproxy, startHoldfast, startNginx } from './wire/proxies.js';
import { type Case, report, type Way } from './wire/report.js';

const { values: options } = parseArgs({
  options: {
    repeat: { type: 'string', default: '7' },
    soak: { type: 'string', default: '1000000' },
    json: { type: 'string' },
  },
});
const repeats = wholeNumber('repeat', options.repeat);
const soakCalls = wholeNumber('soak', options.soak);

const loads: Readonly<Record<string, Load>> = {
  'one at a time': { path: smallPath, calls: 20_000, atOnce: 1 },
  '32 at a time': { path: smallPath, calls: 100_000, atOnce: 32 },
  '1 MiB list, one at a time': { path: largePath, calls: 300, atOnce: 1 },
  '1 MiB lists, 32 at a time': { path: largePath, calls: 400, atOnce: 32 },
};
const soakSteps = 10;

function wholeNumber(name: string, text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value > 0) return value;
  process.stderr.write(`bench:wire: --${name} takes a whole number above 0, not "${text}"\n`);
  process.exit(2);
}

/** One measurement of one way, with the CPU time its proxy used. */
interface Sample extends Measured {
  readonly cpuSeconds: number;
}

async function measure(way: Way, directory: string, load: Load, requestFile: string): Promise<Sample> {
  const before = way.server?.usage.cpuSeconds ?? 0;
  const measured = await h2load(way.socket, directory, load, requestFile);
  return { ...measured, cpuSeconds: (way.server?.usage.cpuSeconds ?? 0) - before };
}

async function compare(
  ways: readonly Way[],
  directory: string,
  load: Load,
  requestFile: string,
): Promise<Case['ways']> {
  const samples = new Map<Way, Sample[]>(ways.map((way) => [way, []]));
  for (let turn = 0; turn <= repeats; turn += 1) {
    for (let n = 0; n < ways.length; n += 1) {
      // Each turn begins with another one; the first turn is for warming up.
      const way = ways[(n + turn) % ways.length];
      if (way === undefined) continue;
      const sample = await measure(way, directory, load, requestFile);
      if (turn > 0) samples.get(way)?.push(sample);
    }
  }
  return [...samples].map(([{ name, server }, taken]) => ({
    name,
    perSecond: median(taken.map(({ perSecond }) => perSecond)),
    meanMs: median(taken.map(({ meanMs }) => meanMs)),
    p99Ms: median(taken.map(({ p99Ms }) => p99Ms)),
    dataBytes: median(taken.map(({ dataBytes }) => dataBytes)),
    cpuSecondsPer10kCalls:
      server === undefined ? null : (sum(taken.map(({ cpuSeconds }) => cpuSeconds)) / (load.calls * repeats)) * 10_000,
    rssBytes: server?.usage.rssBytes ?? null,
  }));
}

/** Holdfast's memory over very many calls. */
async function soak(server: Server, directory: string, requestFile: string): Promise<number[]> {
  const rss: number[] = [];
  const load = { path: smallPath, calls: Math.ceil(soakCalls / soakSteps), atOnce: 32 };
  for (let step = 0; step < soakSteps; step += 1) {
    await h2load(server.socket, directory, load, requestFile);
    rss.push(server.usage.rssBytes);
  }
  return rss;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return ((sorted[(sorted.length - 1) >> 1] ?? 0) + (sorted[sorted.length >> 1] ?? 0)) / 2;
}

const directory = mkdtempSync(path.join(tmpdir(), 'hfbench-'));
const requestFile = path.join(directory, 'request');
// An empty message in gRPC's framing.
writeFileSync(requestFile, Buffer.alloc(5));
const stops: (() => Promise<void>)[] = [];
try {
  const backend = await startBackend(directory);
  stops.push(() => backend.stop());
  const servers: Server[] = [];
  for (const start of [startHaproxy, startNginx, startHoldfast]) {
    const server = await start(directory, backend.socket);
    stops.push(() => server.stop());
    servers.push(server);
  }
  const ways: Way[] = [
    { name: 'direct', socket: backend.socket, server: undefined },
    ...servers.map((server) => ({ name: server.name, socket: server.socket, server })),
  ];
  const cases: Case[] = [];
  for (const [name, load] of Object.entries(loads)) {
    cases.push({ name, ...load, ways: await compare(ways, directory, load, requestFile) });
  }
  const holdfast = await startHoldfast(mkdtempSync(path.join(directory, 'soak-')), backend.socket);
  stops.push(() => holdfast.stop());
  const result = {
    backend: backend.name,
    repeats,
    cases,
    soak: { calls: soakCalls, rssBytes: await soak(holdfast, directory, requestFile) },
  };
  process.stdout.write(report(result));
  if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify(result, null, 2)}\n`);
} finally {
  for (const stop of stops.reverse()) await stop();
  rmSync(directory, { recursive: true, force: true });
}

/**
 * `npm run bench:startup -- --node PATH…`: what the start of `serve` costs, and what it takes while nothing happens, with each Node
 * given, of dist/ and of the bundle. CPU time and time to the first answered call are medians; a call is tried every 5 ms.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { type ClientHttp2Session, connect as connectHttp2, constants } from 'node:http2';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Server, usageOf } from './wire/processes.js';

const { values: options } = parseArgs({
  options: {
    node: { type: 'string', multiple: true, default: [process.execPath] },
    repeat: { type: 'string', default: '5' },
    /** For how long a kubelet-like client lists each second. */
    seconds: { type: 'string', default: '20' },
  },
});
const service = '/runtime.v1.RuntimeService/';
const methods = ['Version', 'ListPodSandbox', 'ListContainers'];
/** The warm-up is over by then. */
const settleMs = 8_000;
const programs = ['bin/holdfast.js', 'dist/holdfast.mjs'];
const file = (name: string) => fileURLToPath(new URL(name, import.meta.url));

/** Of all threads, in ms: the first field of /proc/PID/task/TID/schedstat, in ns. Threads that have ended are not in it. */
function cpuMs(pid: number): number {
  const tasks = readdirSync(`/proc/${pid}/task`);
  const used = (task: string) => Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ')[0]);
  return tasks.reduce((sum, task) => sum + used(task), 0) / 1e6;
}

function tried(socket: string): Promise<Socket | undefined> {
  return new Promise((resolve) => {
    const attempt = connect(socket);
    attempt.once('connect', () => resolve(attempt));
    attempt.once('error', () => resolve(undefined));
  });
}

async function call(session: ClientHttp2Session, method: string): Promise<void> {
  const headers = { 'content-type': 'application/grpc', te: 'trailers' };
  const { HTTP2_HEADER_METHOD, HTTP2_HEADER_PATH } = constants;
  const stream = session.request({ [HTTP2_HEADER_METHOD]: 'POST', [HTTP2_HEADER_PATH]: service + method, ...headers });
  stream.resume().end(Buffer.alloc(5));
  await once(stream, 'end');
}

interface Start {
  readonly cpuMs: number;
  readonly wallMs: number;
  readonly rssMiB: number | undefined;
  readonly idlePercent: number | undefined;
}

/** @param seconds 0: only the start is measured. */
async function start(
  node: string,
  program: string,
  directory: string,
  backend: string,
  seconds: number,
): Promise<Start> {
  const socket = `${directory}/h.sock`;
  const began = performance.now();
  const args = [file(`../${program}`), 'serve', `--listen=${socket}`, `--runtime=${backend}`];
  const child = spawn(node, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  const exit = once(child, 'exit');
  const pid = child.pid ?? 0;
  let connected: Socket | undefined;
  for (; connected === undefined; connected = await tried(socket)) {
    if (child.exitCode !== null) throw new Error(`${node} ${program} ended`);
    await sleep(5);
  }
  const found = connected;
  const session = connectHttp2('http://localhost', { createConnection: () => found });
  await call(session, 'Version');
  const measured = { cpuMs: cpuMs(pid), wallMs: performance.now() - began };
  let [rssMiB, idlePercent]: (number | undefined)[] = [];
  if (seconds > 0) {
    await sleep(settleMs);
    rssMiB = usageOf(pid).rssBytes / 1024 / 1024;
    const before = cpuMs(pid);
    for (let second = 0; second < seconds; second += 1) {
      for (const method of methods) await call(session, method);
      await sleep(1_000);
    }
    idlePercent = (cpuMs(pid) - before) / seconds / 10;
  }
  session.destroy();
  child.kill('SIGTERM');
  await exit;
  return { ...measured, rssMiB, idlePercent };
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? Number.NaN;
}

const directory = mkdtempSync(path.join(tmpdir(), 'hfstart-'));
const backend = `${directory}/b.sock`;
const answers = [file('wire/fixed-answers.ts'), backend, ...methods.map((method) => `${service}${method}=45`)];
const server = await Server.start('backend', backend, [process.execPath, ...process.execArgv, ...answers]);
try {
  process.stdout.write('node                program             CPU ms  wall ms  RSS MiB  idle %\n');
  for (const node of options.node) {
    for (const program of programs) {
      const starts: Start[] = [];
      for (let turn = 0; turn < Number(options.repeat); turn += 1) {
        starts.push(await start(node, program, directory, backend, turn === 0 ? Number(options.seconds) : 0));
      }
      const [first] = starts;
      const figures = [median(starts.map(({ cpuMs: ms }) => ms)), median(starts.map(({ wallMs }) => wallMs))];
      const cells = [...figures, first?.rssMiB ?? 0].map((figure) => figure.toFixed(0).padStart(8));
      const idle = (first?.idlePercent ?? 0).toFixed(2).padStart(7);
      process.stdout.write(`${node.slice(-19).padEnd(19)} ${program.padEnd(18)} ${cells.join(' ')} ${idle}\n`);
    }
  }
} finally {
  await server.stop();
  rmSync(directory, { recursive: true, force: true });
}

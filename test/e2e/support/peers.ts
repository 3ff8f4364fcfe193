/**
 * The gRPC libraries of the interop tests: grpc-js in this process, grpc-go and C-core as programs of their own, whose sources
 * are in `test/e2e/interop`. Servers answer as any-backend.ts says, clients do what any-client.ts says.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';
import { startBackend } from '../../support/any-backend.js';
import { type AnyCalls, makeCalls, type Seen } from '../../support/any-client.js';
import { buildGo, missingGrpcGo } from './grpc-go.js';
import { accepts } from './holdfast.js';
import { missingPrograms } from './programs.js';
import { until } from './until.js';

export interface Peer {
  readonly name: string;
  /** What begins the user agent of its client. */
  readonly agent: string;
  /** Serves a unix socket until the test ends. */
  serve(t: Test, socket: string): Promise<void>;
  call(socket: string, calls: AnyCalls): Promise<Seen[]>;
}

const sources = fileURLToPath(new URL('../interop', import.meta.url));
/** Debian's, which has python3-grpcio; another Python may come first in the PATH. */
const python = '/usr/bin/python3';

/** Why the peers cannot run here. */
export function missingPeers(): string | undefined {
  const absent = missingGrpcGo() ?? missingPrograms(python);
  if (absent !== undefined) return absent;
  if (!fs.existsSync('/usr/lib/python3/dist-packages/grpc')) return 'needs python3-grpcio';
  return undefined;
}

/** @param directory Where the Go program goes. */
export async function buildPeers(directory: string) {
  const goProgram = `${directory}/peer`;
  await buildGo(sources, goProgram);
  return {
    grpcJs,
    grpcGo: programPeer('grpc-go', 'grpc-go/', [goProgram, 'server'], [goProgram, 'client']),
    cCore: programPeer('C-core', 'grpc-python/', [python, `${sources}/server.py`], [python, `${sources}/client.py`]),
  };
}

const grpcJs: Peer = {
  name: 'grpc-js',
  agent: 'grpc-node-js/',
  serve: async (t, socket) => {
    const server = await startBackend(socket);
    t.teardown(() => server.forceShutdown());
  },
  call: makeCalls,
};

function programPeer(name: string, agent: string, server: readonly string[], client: readonly string[]): Peer {
  return {
    name,
    agent,
    serve: async (t, socket) => {
      const running = start([...server, socket]);
      // It ends with its stdin, also when this process is killed.
      t.teardown(async () => {
        running.child.stdin.end();
        await running.output;
      });
      await until(`${name} listens`, () => accepts(socket));
    },
    call: async (socket, calls) => {
      const running = start([...client, socket]);
      running.child.stdin.end(JSON.stringify(calls));
      return JSON.parse(await running.output) as Seen[];
    },
  };
}

/** `output` is what it writes to stdout until its end; rejects where it fails. */
function start([command = '', ...args]: readonly string[]) {
  const child = spawn(command, args);
  const chunks: { stdout: Buffer[]; stderr: Buffer[] } = { stdout: [], stderr: [] };
  child.stdout.on('data', (chunk: Buffer) => chunks.stdout.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => chunks.stderr.push(chunk));
  // A program that has failed reads no further; its exit code says so.
  child.stdin.on('error', () => {});
  const output = once(child, 'close').then(([code]) => {
    if (code !== 0) throw new Error(`${command} ended with ${code}:\n${Buffer.concat(chunks.stderr).toString()}`);
    return Buffer.concat(chunks.stdout).toString();
  });
  return { child, output };
}

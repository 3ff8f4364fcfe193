/**
 * A runtime and a kubelet on grpc-go, as programs whose sources are in `test/e2e/grpc-go`: the two peers that every node has.
 * A test tells each of them what to do while it runs. Knows nothing of Holdfast: the kubelet calls whatever socket it is given.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Test } from 'tap';
import { accepts } from './holdfast.js';
import { missingPrograms } from './programs.js';
import { until } from './until.js';

const sources = fileURLToPath(new URL('../grpc-go', import.meta.url));
/** Of golang-google-grpc-dev. */
const goPath = '/usr/share/gocode';

/** Why the program cannot be made here. */
export function missingGrpcGo(): string | undefined {
  const absent = missingPrograms('go');
  if (absent !== undefined) return absent;
  return fs.existsSync(`${goPath}/src/google.golang.org/grpc`) ? undefined : 'needs golang-google-grpc-dev';
}

/** @returns The path of the program, in `directory`. */
export async function buildGrpcGo(directory: string): Promise<string> {
  const program = `${directory}/peer`;
  await buildGo(sources, program);
  return program;
}

/** Builds the Go program whose sources are in this directory. */
export async function buildGo(cwd: string, program: string): Promise<void> {
  const env = { ...process.env, CGO_ENABLED: '0', GO111MODULE: 'off', GOPATH: goPath, GOFLAGS: '-p=2' };
  await promisify(execFile)('go', ['build', '-o', program, '.'], { cwd, env });
}

/** Frames of one direction, over all connections of a peer. */
interface Tally {
  /** Those that ask. */
  readonly pings: number;
  readonly pingAcks: number;
  /** The texts, which say why: `too_many_pings`. */
  readonly goAways: readonly string[];
}

interface KubeletSeen {
  /** Made so far. */
  readonly connections: number;
  readonly received: Tally;
  readonly sent: Tally;
}

interface RuntimeSeen extends KubeletSeen {
  /** Calls under way, by the name of the method. */
  readonly open: Readonly<Record<string, number>>;
  /** Calls that came, by the name of the method. */
  readonly begun: Readonly<Record<string, number>>;
}

/** How the runtime answers the calls of a method; nothing said: at once, with an empty message or an id it makes up. */
export interface Rule {
  /** The least and the longest time a call takes, ms. */
  readonly delayMs?: readonly [number, number];
  /** Calls take until `release`, and end when their caller leaves. */
  readonly held?: boolean;
  /** The messages of the answer. */
  readonly answers?: readonly Buffer[];
  /** Calls fail. */
  readonly code?: number;
  readonly text?: string;
  /** Length of one field of the trailers. */
  readonly trailerBytes?: number;
}

/** What a caller got. A long text or answer is there as its length and digest. */
export interface Outcome {
  readonly code: number;
  readonly text: string;
  /** The answer's bytes in base64; of a stream the digest of all messages. */
  readonly answer: string;
  readonly bytes: number;
  readonly messages: number;
  readonly trailers: Readonly<Record<string, readonly string[]>>;
}

export interface StreamOptions {
  readonly request?: Buffer;
  /** It is left after so many messages; default: it is read to its end. */
  readonly messages?: number;
  /** Nothing is read until `read`. */
  readonly unread?: boolean;
}

interface Waiter {
  resolve(result: unknown): void;
  reject(error: Error): void;
}

/** One of the two, told on its stdin; it ends with it. */
class Peer {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, Waiter>();
  readonly #errors: string[] = [];
  readonly #closed: Promise<unknown>;
  #lastId = 0;

  constructor(t: Test, program: string, args: readonly string[]) {
    this.#child = spawn(program, args);
    const { stdout, stderr } = this.#child;
    if (stdout === null || stderr === null) throw new Error('no pipes');
    createInterface({ input: stdout }).on('line', (line) => this.#answered(line));
    createInterface({ input: stderr }).on('line', (line) => this.#errors.push(line));
    this.#child.stdin?.on('error', () => {});
    this.#closed = once(this.#child, 'close').then(() => {
      const error = new Error(`the peer ended:\n${this.#errors.slice(-20).join('\n')}`);
      for (const { reject } of this.#waiting.values()) reject(error);
      this.#waiting.clear();
    });
    t.teardown(() => this.end());
  }

  /** Until it is resumed it does nothing, and its connections stay as they are. */
  pause(): void {
    this.#child.kill('SIGSTOP');
  }

  resume(): void {
    this.#child.kill('SIGCONT');
  }

  /** SIGKILL: commands under way are rejected. */
  async end(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#closed;
  }

  protected command(op: string, args: object = {}): Promise<unknown> {
    const id = ++this.#lastId;
    const result = new Promise<unknown>((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
    // A test may end without waiting for it.
    result.catch(() => {});
    this.#child.stdin?.write(`${JSON.stringify({ id, op, arguments: args })}\n`);
    return result;
  }

  #answered(line: string): void {
    const { id, result, error } = JSON.parse(line) as { id: number; result?: unknown; error?: string };
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (error === undefined) waiting?.resolve(result);
    else waiting?.reject(new Error(error));
  }
}

export interface RuntimeOptions {
  /** MAX_CONCURRENT_STREAMS; default: none. */
  readonly maxStreams?: number;
  /** After so much silence it sends a PING, and ends the connection where nothing comes for as long again; default: none. */
  readonly keepaliveMs?: number;
}

export class GoRuntime extends Peer {
  readonly socket: string;

  /** Resolves when it listens; it ends with the test. */
  static async start(t: Test, program: string, socket: string, options: RuntimeOptions = {}): Promise<GoRuntime> {
    const runtime = new GoRuntime(t, program, socket, options);
    await until('the runtime listens', () => accepts(socket));
    return runtime;
  }

  private constructor(t: Test, program: string, socket: string, { maxStreams = 0, keepaliveMs = 0 }: RuntimeOptions) {
    super(t, program, ['runtime', `-max-streams=${maxStreams}`, `-keepalive-ms=${keepaliveMs}`, socket]);
    this.socket = socket;
  }

  /** From here on calls of this method are answered like this. */
  async set(method: string, { delayMs = [0, 0], answers, ...rule }: Rule): Promise<void> {
    const encoded = answers?.map((answer) => answer.toString('base64'));
    await this.command('set', { method, rule: { ...rule, delayMs, answers: encoded } });
  }

  async release(...methods: readonly string[]): Promise<void> {
    await Promise.all(methods.map((method) => this.command('release', { method })));
  }

  /** To each subscriber, so many times, each time with another `created_at`. */
  async emit(message: Buffer, times: number): Promise<void> {
    await this.command('emit', { message: message.toString('base64'), times });
  }

  /** It listens no more, tells its clients to leave, and has stopped when all calls under way are answered. */
  async gracefulStop(): Promise<void> {
    await this.command('gracefulStop');
  }

  seen(): Promise<RuntimeSeen> {
    return this.command('seen') as Promise<RuntimeSeen>;
  }

  /** Waits until so many calls of a method are under way. */
  async reached(method: string, count: number): Promise<void> {
    await until(`${count} of ${method} are under way`, async () => ((await this.seen()).open[method] ?? 0) === count);
  }
}

export interface DialOptions {
  /** How long a connection is given until the server's SETTINGS are there; as in kubelets from 1.35 on. */
  readonly connectMs?: number;
  /** Nothing can be called before it is ready, as with crictl. */
  readonly block?: boolean;
}

/** What stands for the calls of a kubelet that wait for the longest time. */
const patienceMs = 20_000;

export class GoKubelet extends Peer {
  #streams = 0;

  constructor(t: Test, program: string, socket: string) {
    super(t, program, ['kubelet', socket]);
  }

  /** Until it can call, ready or not. */
  async dial({ connectMs = 5_000, block = false }: DialOptions = {}): Promise<void> {
    await this.command('dial', { timeoutMs: patienceMs, connectMs, block });
  }

  /** Until its connection is ready. */
  async ready(): Promise<void> {
    await this.command('ready', { timeoutMs: patienceMs });
  }

  /** Calls a method of the runtime service. */
  call(method: string, request: Buffer = Buffer.alloc(0), timeoutMs = patienceMs): Promise<Outcome> {
    const call = { path: `/runtime.v1.RuntimeService/${method}`, request: request.toString('base64'), timeoutMs };
    return this.command('call', call) as Promise<Outcome>;
  }

  /** Opens a server stream of the runtime service. */
  stream(method: string, { request = Buffer.alloc(0), ...options }: StreamOptions = {}) {
    const name = String(++this.#streams);
    const path = `/runtime.v1.RuntimeService/${method}`;
    const ended = this.command('stream', { name, path, request: request.toString('base64'), ...options });
    return {
      ended: ended as Promise<Outcome>,
      /** Messages so far. */
      received: async () => ((await this.command('received', { name })) as number | null) ?? 0,
      read: () => this.command('read', { name }),
    };
  }

  seen(): Promise<KubeletSeen> {
    return this.command('seen') as Promise<KubeletSeen>;
  }
}

export interface CallerSeen {
  readonly answers: number;
  /** The longest time without an answer. */
  readonly longestMs: number;
  readonly dials: number;
  readonly failedDials: number;
  readonly failed: readonly { readonly atMs: number; readonly code: number; readonly text: string }[];
}

/** Calls `Version` every 20 ms, one call after the other, over one connection, with the dial settings of kubelets from 1.35 on. */
export class GoCaller extends Peer {
  /** Resolves with the first answer; it goes on until the test ends. */
  static async start(t: Test, program: string, socket: string): Promise<GoCaller> {
    const caller = new GoCaller(t, program, socket);
    await caller.command('begin');
    return caller;
  }

  private constructor(t: Test, program: string, socket: string) {
    super(t, program, ['caller', socket]);
  }

  /** What came of the calls since this was asked last. */
  seen(): Promise<CallerSeen> {
    return this.command('seen') as Promise<CallerSeen>;
  }
}

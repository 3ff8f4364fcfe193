/** Links on real unix sockets, for tests: where they listen, and peers that speak raw frames. */
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import type { Test } from 'tap';
import { systemClock } from '../../../src/clock.js';
import { Dialer } from '../../../src/proxy/http2/dialer.js';
import { connectionPreface } from '../../../src/proxy/http2/frames.js';
import type { Limits } from '../../../src/proxy/http2/limits.js';
import { type Link, openLink, type RouterHandlers } from '../../../src/proxy/http2/link.js';
import type { ManualClock } from '../../support/manual-clock.js';
import { type Frame, readFrames, show } from './wire.js';

export interface Place {
  readonly listenPath: string;
  readonly runtimePath: string;
}

export function place(t: Test): Place {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'link-'));
  t.teardown(() => fs.rmSync(folder, { recursive: true, force: true }));
  return { listenPath: path.join(folder, 'l.sock'), runtimePath: path.join(folder, 'r.sock') };
}

/** Takes `/take…`, observes `/observe…`, passes the rest. */
const passAll: RouterHandlers = {
  decide: (name) => (name.startsWith('/take') ? 'take' : name.startsWith('/observe') ? 'observe' : 'pass'),
  observe: () => {},
  take: () => {},
};

export interface Front {
  readonly links: Link[];
  readonly opened: Promise<Link>;
}

/** Listens at `listenPath` and opens a link for each connection. */
export async function listen(
  t: Test,
  at: Place,
  options: { handlers?: Partial<RouterHandlers>; limits?: Partial<Limits>; clock?: ManualClock } = {},
): Promise<Front> {
  const { clock = systemClock } = options;
  const dialer = new Dialer(at.runtimePath, clock);
  const links: Link[] = [];
  let first = (_link: Link): void => {};
  const opened = new Promise<Link>((resolve) => {
    first = resolve;
  });
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    const { limits = {} } = options;
    const link = openLink(socket, { dialer, handlers: { ...passAll, ...options.handlers }, clock, limits });
    links.push(link);
    first(link);
  });
  await new Promise<void>((resolve) => server.listen(at.listenPath, resolve));
  t.teardown(async () => {
    for (const link of links) link.destroy();
    await Promise.all(links.map(({ closed }) => closed));
    dialer.close();
    await new Promise((resolve) => server.close(resolve));
  });
  return { links, opened };
}

/** A socket that speaks frames. */
export class RawPeer {
  readonly socket: net.Socket;
  readonly closed: Promise<void>;
  #bytes: Buffer = Buffer.alloc(0);
  readonly seen: Frame[] = [];
  #changed = (): void => {};

  constructor(socket: net.Socket, skip = 0) {
    this.socket = socket;
    let toSkip = skip;
    socket.on('error', () => {});
    this.closed = new Promise((resolve) => {
      socket.once('close', () => resolve());
    });
    socket.on('data', (chunk: Buffer) => {
      const { frames, length } = readFrames(
        Buffer.concat([this.#bytes, chunk.subarray(Math.min(toSkip, chunk.length))]),
      );
      this.#bytes = Buffer.concat([this.#bytes, chunk.subarray(Math.min(toSkip, chunk.length))]).subarray(length);
      toSkip -= Math.min(toSkip, chunk.length);
      this.seen.push(...frames);
      this.#changed();
    });
  }

  static async connect(t: Test, socketPath: string): Promise<RawPeer> {
    const socket = net.connect({ path: socketPath, allowHalfOpen: true });
    t.teardown(() => socket.destroy());
    await new Promise<void>((resolve) => socket.once('connect', () => resolve()));
    return new RawPeer(socket);
  }

  send(...frames: Buffer[]): void {
    this.socket.write(Buffer.concat(frames));
  }

  /** The first frame so shown, now or later. */
  async until(shown: string | RegExp): Promise<Frame> {
    for (;;) {
      const found = this.seen.find((one) => (typeof shown === 'string' ? show(one) === shown : shown.test(show(one))));
      if (found !== undefined) return found;
      await new Promise<void>((resolve) => {
        this.#changed = resolve;
      });
    }
  }
}

/** A runtime that speaks raw frames; resolves with each connection. */
export async function rawRuntime(t: Test, at: Place): Promise<{ accepted: Promise<RawPeer>; server: net.Server }> {
  let accept = (_peer: RawPeer): void => {};
  const accepted = new Promise<RawPeer>((resolve) => {
    accept = resolve;
  });
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    t.teardown(() => socket.destroy());
    accept(new RawPeer(socket, connectionPreface.length));
  });
  await new Promise<void>((resolve) => server.listen(at.runtimePath, resolve));
  t.teardown(() => server.close());
  return { accepted, server };
}

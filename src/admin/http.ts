/**
 * A small HTTP server beside the proxy, never in its path: routes, and limits for whoever asks slowly, much or often. Knows nothing of
 * what is served.
 */
import { chmodSync, chownSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { makeDirectory, removeStale } from '../proxy/listen.js';

/** Nothing that is asked here is long, in bytes. */
const maxBodyBytes = 16 * 1024;
/** How long a request may take to come in whole, its headers before that, and how long nothing may move on a connection, in ms. */
const requestMs = 10_000;
const headersMs = 5_000;
/** How often both are looked after; Node does it each 30 s unless told. */
const lookEachMs = 1_000;
export const idleMs = 30_000;
const maxConnections = 100;

export class AdminListenError extends Error {
  override readonly name = 'AdminListenError';
}

/** What whoever asks is told instead of an answer. */
export class HttpError extends Error {
  override readonly name = 'HttpError';
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

export interface HttpCall {
  readonly query: URLSearchParams;
  readonly response: ServerResponse;
  /** Fires when the caller has left, or has its answer. */
  readonly signal: AbortSignal;
  /** The body as text. @throws {HttpError} It is too long. */
  body(): Promise<string>;
  /** How long nothing may move on its connection from now on, in ms. */
  idleFor(ms: number): void;
}

const base = 'http://holdfast';

type Method = 'GET' | 'POST' | 'PUT';

/** By path, then by method. A handler that throws is answered 500, or as its HttpError says. */
export type Routes = Readonly<Record<string, Readonly<Partial<Record<Method, (call: HttpCall) => unknown>>>>>;

/** A TCP address, whose empty host is every one of the machine and whose port 0 any free one; or a unix socket. */
export type Where =
  | { readonly host: string; readonly port: number }
  /** `gid`: the group that may connect; without, the owner alone may. */
  | { readonly path: string; readonly gid?: number | undefined };

export interface HttpEndpoint {
  /** Of a TCP address: the port it listens on. */
  readonly port: number;
  /** Stops listening and ends its connections. */
  close(): Promise<void>;
}

/**
 * @throws {AdminListenError} The address is in use, not of this machine or not permitted. A socket file that nobody answers on is
 *   replaced.
 */
export async function serveHttp(where: Where, routes: Routes): Promise<HttpEndpoint> {
  const server = createServer(
    { connectionsCheckingInterval: lookEachMs },
    (request, response) => void answer(request, response, routes),
  );
  server.requestTimeout = requestMs;
  server.headersTimeout = headersMs;
  server.timeout = idleMs;
  server.maxConnections = maxConnections;
  try {
    if ('path' in where) await listenOnFile(server, where);
    else
      await listening(server, () =>
        server.listen({ port: where.port, ...(where.host === '' ? {} : { host: where.host }) }),
      );
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new AdminListenError(`${cannotServe(where)}: ${why}`, { cause });
  }
  // accept(2) out of descriptors must not end the process.
  server.on('error', () => {});
  return {
    port: 'path' in where ? 0 : (server.address() as AddressInfo).port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

export function sendJson(response: ServerResponse, value: unknown): void {
  response.writeHead(200, { 'content-type': 'application/json' }).end(`${JSON.stringify(value, undefined, 2)}\n`);
}

export function sendText(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8' }).end(`${text}\n`);
}

function cannotServe(where: Where): string {
  if ('path' in where) return `--admin: cannot serve the admin endpoint on ${where.path}`;
  return `--metrics: cannot serve metrics on ${where.host.includes(':') ? `[${where.host}]` : where.host}:${where.port}`;
}

/** The file is the owner's alone from its first moment: Node binds within listen(). */
async function listenOnFile(server: Server, { path, gid }: Extract<Where, { path: string }>): Promise<void> {
  makeDirectory(path);
  await removeStale(path);
  await listening(server, () => {
    const umask = process.umask(0o177);
    try {
      server.listen(path);
    } finally {
      process.umask(umask);
    }
  });
  if (gid === undefined) return;
  try {
    chownSync(path, -1, gid);
    chmodSync(path, 0o660);
  } catch (error) {
    server.close();
    throw error;
  }
}

function listening(server: Server, listen: () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.once('listening', () => {
      server.off('error', reject);
      resolve();
    });
    listen();
  });
}

async function answer(request: IncomingMessage, response: ServerResponse, routes: Routes): Promise<void> {
  const left = new AbortController();
  response.once('close', () => left.abort());
  try {
    const asked = request.url ?? '';
    if (!URL.canParse(asked, base)) throw new HttpError(400, 'that is no path');
    const { pathname, searchParams: query } = new URL(asked, base);
    const methods = Object.hasOwn(routes, pathname) ? routes[pathname] : undefined;
    if (methods === undefined) {
      throw new HttpError(404, `${pathname} is not here; there is ${Object.keys(routes).join(', ')}`);
    }
    const handle = methods[request.method as Method];
    if (handle === undefined) {
      const allowed = Object.keys(methods).join(', ');
      response.setHeader('allow', allowed);
      throw new HttpError(405, `${pathname} takes ${allowed}, not ${request.method}`);
    }
    await handle({
      query,
      response,
      signal: left.signal,
      body: () => bodyOf(request),
      idleFor: (ms) => request.socket.setTimeout(ms),
    });
  } catch (error) {
    if (response.headersSent) response.destroy();
    else if (error instanceof HttpError) sendText(response, error.status, error.message);
    else sendText(response, 500, `it failed: ${error instanceof Error ? error.message : error}`);
  }
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request) {
    chunks.push(chunk);
    bytes += chunk.length;
    if (bytes > maxBodyBytes) throw new HttpError(413, `a body has at most ${maxBodyBytes} bytes here`);
  }
  return Buffer.concat(chunks).toString();
}

/** The admin endpoint: a small HTTP server beside the proxy, never in its path. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Registry } from 'prom-client';
import type { HoldfastConfig } from '../config/config.js';

export class AdminListenError extends Error {
  override readonly name = 'AdminListenError';
}

export interface Admin {
  /** The port it listens on. */
  readonly port: number;
  /** Stops listening and ends its connections. */
  close(): Promise<void>;
}

/**
 * Serves GET /metrics: the registry in Prometheus's text format.
 *
 * @param address An empty host is every address of the machine; port 0 is any free one.
 * @throws {AdminListenError} The address is in use, not of this machine or not permitted.
 */
export async function serveAdmin(address: NonNullable<HoldfastConfig['metrics']>, registry: Registry): Promise<Admin> {
  const server = createServer((request, response) => {
    answer(request, response, registry).catch(() => {
      if (!response.headersSent) response.writeHead(500);
      response.end();
    });
  });
  server.requestTimeout = 10_000;
  server.maxConnections = 100;
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause) => {
      const shown = `${address.host.includes(':') ? `[${address.host}]` : address.host}:${address.port}`;
      reject(new AdminListenError(`cannot serve metrics on ${shown}: ${cause.message}`, { cause }));
    });
    server.listen({ port: address.port, ...(address.host === '' ? {} : { host: address.host }) }, resolve);
  });
  // accept(2) out of descriptors must not end the process.
  server.on('error', () => {});
  return {
    port: (server.address() as AddressInfo).port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function answer(request: IncomingMessage, response: ServerResponse, registry: Registry): Promise<void> {
  if (request.url?.split('?')[0] !== '/metrics') {
    response.writeHead(404).end();
  } else if (request.method !== 'GET') {
    response.writeHead(405, { allow: 'GET' }).end();
  } else {
    const text = await registry.metrics();
    response.writeHead(200, { 'content-type': registry.contentType }).end(text);
  }
}

#!/usr/bin/env node
/**
 * As much of a kubelet as an installer sees: flags, --config-dir and --config in the real precedence; at the start a Version call, whose
 * failure ends it; then a list of pod sandboxes and the status each half second; /healthz, which fails while the lists do.
 */
import { readdirSync, readFileSync } from 'node:fs';
import http from 'node:http';
import http2 from 'node:http2';
import net from 'node:net';

const known = ['--config', '--config-dir', '--container-runtime-endpoint', '--hostname-override', '--v'];
const flags = new Map();
for (const argument of process.argv.slice(2)) {
  const [name, value] = argument.split('=');
  if (name !== '--version' && !known.includes(name)) {
    process.stderr.write(`Error: unknown flag: ${name}\n`);
    process.exit(1);
  }
  flags.set(name, value ?? '');
}
if (flags.has('--version')) {
  process.stdout.write('Kubernetes v1.36.2\n');
  process.exit(0);
}

let endpoint = 'unix:///run/containerd/containerd.sock';
const folder = flags.get('--config-dir');
const dropIns =
  folder === undefined
    ? []
    : readdirSync(folder)
        .filter((name) => name.endsWith('.conf'))
        .sort();
for (const file of [flags.get('--config'), ...dropIns.map((name) => `${folder}/${name}`)]) {
  if (file === undefined) continue;
  endpoint = /^containerRuntimeEndpoint: *"?([^"\s]+)/m.exec(readFileSync(file, 'utf8'))?.[1] ?? endpoint;
}
endpoint = flags.get('--container-runtime-endpoint') || endpoint;
const socket = endpoint.replace('unix://', '');
process.stdout.write(`${process.pid} dials ${socket}\n`);

function call(method) {
  return new Promise((resolve, reject) => {
    const connection = net.connect(socket);
    const session = http2.connect('http://localhost', { createConnection: () => connection });
    const end = (error) => {
      clearTimeout(timer);
      session.destroy();
      connection.destroy();
      if (error === undefined) resolve();
      else reject(error);
    };
    const timer = setTimeout(() => end(new Error('deadline exceeded')), 3_000);
    connection.on('error', end);
    connection.on('close', () => end(new Error('closed')));
    session.on('error', end);
    const path = `/runtime.v1.RuntimeService/${method}`;
    const request = session.request({
      ':method': 'POST',
      ':path': path,
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    let status;
    const keep = (headers) => {
      status = headers['grpc-status'] ?? status;
    };
    request.on('response', keep);
    request.on('trailers', keep);
    request.on('error', end);
    request.on('data', () => {});
    request.on('end', () => end(status === '0' ? undefined : new Error(`gRPC status ${status}`)));
    request.end(Buffer.alloc(5));
  });
}

let last = 'nothing listed yet';
http.createServer((_, response) => response.writeHead(last === 'ok' ? 200 : 500).end(last)).listen(10_248, '127.0.0.1');
await call('Version');
for (;;) {
  last = await Promise.all([call('ListPodSandbox'), call('Status')]).then(
    () => 'ok',
    (error) => error.message,
  );
  await new Promise((resolve) => setTimeout(resolve, 500));
}

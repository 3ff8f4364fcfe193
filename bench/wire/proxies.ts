/** The proxies that are compared, each with one thread for the wire, and each in front of the same backend. */
import { writeFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { fileURLToPath } from 'node:url';
import { Server } from './processes.js';

const executable = fileURLToPath(new URL('../../bin/holdfast.js', import.meta.url));

/** @param directory For configuration and sockets. */
export function startHaproxy(directory: string, backend: string): Promise<Server> {
  const socket = `${directory}/haproxy.sock`;
  const file = `${directory}/haproxy.cfg`;
  writeFileSync(
    file,
    `global
  nbthread 1
defaults
  mode http
  timeout connect 5s
  timeout client 300s
  timeout server 300s
frontend downstream
  bind unix@${socket} proto h2
  default_backend upstream
backend upstream
  server runtime unix@${backend} proto h2
`,
  );
  return Server.start('haproxy', socket, ['haproxy', '-f', file]);
}

/** One worker in the foreground, as the user who may open the backend's socket. */
export function startNginx(directory: string, backend: string): Promise<Server> {
  const socket = `${directory}/nginx.sock`;
  const file = `${directory}/nginx.conf`;
  const temporaryFiles = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((kind) => `${kind}_temp_path ${directory}/nginx-${kind};`)
    .join(' ');
  writeFileSync(
    file,
    `worker_processes 1;
daemon off;
user ${userInfo().username};
pid ${directory}/nginx.pid;
error_log stderr error;
events { worker_connections 1024; }
http {
  access_log off;
  keepalive_requests 100000000;
  ${temporaryFiles}
  upstream runtime {
    server unix:${backend};
    keepalive 64;
    keepalive_requests 100000000;
  }
  server {
    listen unix:${socket} http2;
    location / { grpc_pass grpc://runtime; }
  }
}
`,
  );
  return Server.start('nginx', socket, ['nginx', '-c', file], true);
}

export function startHoldfast(directory: string, backend: string): Promise<Server> {
  const socket = `${directory}/holdfast.sock`;
  const command = [executable, 'serve', '--listen', socket, '--runtime', backend] as const;
  return Server.start('holdfast', socket, [process.execPath, ...command]);
}

/** What answers behind the proxies: a real containerd where one can run, else an nginx that serves two fixed answers. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { images, missing, RealContainerd } from '../../test/e2e/support/containerd.js';
import { Server } from './processes.js';
import { nginxConfig } from './proxies.js';

export interface Backend {
  readonly name: string;
  readonly socket: string;
  stop(): Promise<void>;
}

export const smallPath = '/runtime.v1.RuntimeService/Version';
export const largePath = '/runtime.v1.RuntimeService/ListContainers';

const largeBytes = 1024 * 1024;
const containers = 40;

export async function startBackend(directory: string): Promise<Backend> {
  return missing() === undefined ? startContainerd() : startFixedAnswers(directory);
}

/** With a list of containers of 1 MiB. */
async function startContainerd(): Promise<Backend> {
  const containerd = new RealContainerd();
  await containerd.start();
  try {
    await containerd.importImages();
    const { client } = containerd;
    const pod = containerd.pod();
    const { pod_sandbox_id } = await client.call('RunPodSandbox', pod.runPodSandboxRequest());
    for (let n = 0; n < containers; n += 1) {
      const request = pod.createContainerRequest(pod_sandbox_id, { image: images.busybox, name: `c${n}` });
      Object.assign(request.config.annotations, { note: 'x'.repeat(largeBytes / containers) });
      await client.call('CreateContainer', request);
    }
  } catch (error) {
    await containerd.cleanUp();
    throw error;
  }
  return { name: 'containerd', socket: containerd.socket, stop: () => containerd.cleanUp() };
}

async function startFixedAnswers(directory: string): Promise<Backend> {
  const socket = `${directory}/backend.sock`;
  const file = `${directory}/backend.conf`;
  mkdirSync(`${directory}/answers/runtime.v1.RuntimeService`, { recursive: true });
  writeFileSync(`${directory}/answers${smallPath}`, Buffer.alloc(45));
  writeFileSync(`${directory}/answers${largePath}`, Buffer.alloc(largeBytes));
  const http = `  server {
    listen unix:${socket} http2;
    root ${directory}/answers;
    default_type application/grpc;
    error_page 405 =200 $uri;
  }`;
  writeFileSync(file, nginxConfig(directory, 'backend', http));
  const server = await Server.start('backend', socket, ['nginx', '-c', file], true);
  return { name: 'nginx with fixed answers', socket, stop: () => server.stop() };
}

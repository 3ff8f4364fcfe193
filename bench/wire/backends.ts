/** What answers behind the proxies: a real containerd where one can run, else two fixed answers. */
import { fileURLToPath } from 'node:url';
import { images, missing, RealContainerd } from '../../test/e2e/support/containerd.js';
import { Server } from './processes.js';

export interface Backend {
  readonly name: string;
  readonly socket: string;
  stop(): Promise<void>;
}

export const smallPath = '/runtime.v1.RuntimeService/Version';
export const largePath = '/runtime.v1.RuntimeService/ListContainers';

const fixedAnswers = fileURLToPath(new URL('fixed-answers.ts', import.meta.url));
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
  const answers = [`${smallPath}=45`, `${largePath}=${largeBytes}`];
  const server = await Server.start('backend', socket, [
    process.execPath,
    ...process.execArgv,
    fixedAnswers,
    socket,
    ...answers,
  ]);
  return { name: 'fixed answers (node:http2)', socket, stop: () => server.stop() };
}

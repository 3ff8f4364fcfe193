/**
 * One `install` or `uninstall` of a node at a time: two at once would take each other's changes back, and each other's way back away.
 *
 * The lock is a socket's name in Linux's abstract namespace, which the kernel takes back when its process ends, however that ends.
 * Such a name is known in one network namespace: a container that installs needs the node's.
 */
import { statSync } from 'node:fs';
import { createServer } from 'node:net';
import type { NodeFiles } from './node-files.js';
import { Refusal } from './refusal.js';

/** @throws {Refusal} Another one is at work; nothing was done. */
export async function alone(files: NodeFiles, act: () => Promise<void>): Promise<void> {
  // The node's root is the same folder wherever it is mounted.
  const { dev, ino } = statSync(files.root);
  const server = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve, reject) => {
    server.once('listening', resolve);
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EADDRINUSE') return reject(error);
      reject(
        new Refusal(
          'another holdfast install or uninstall is at work on this node',
          'wait until it has ended, and run this again',
        ),
      );
    });
    server.listen(`\0holdfast-install ${dev}:${ino}`);
  });
  try {
    await act();
  } finally {
    server.close();
  }
}

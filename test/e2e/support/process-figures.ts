/** What the kernel says of another process (proc(5)), and what it says of itself to Prometheus. Linux. */
import { readdirSync, readFileSync } from 'node:fs';
import http from 'node:http';
import net, { type AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';

/** Resident memory in MiB: now, and the most it has been. */
export function memory(pid: number): { nowMiB: number; peakMiB: number } {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const field = (name: string) => Number(new RegExp(`^${name}:\\s*(\\d+) kB$`, 'm').exec(status)?.[1]) / 1024;
  return { nowMiB: field('VmRSS'), peakMiB: field('VmHWM') };
}

export function openFiles(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

/** A TCP port of 127.0.0.1 that nobody listened on a moment ago. */
export async function freePort(): Promise<number> {
  const server = net.createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** @param series `name{label="value"}`, or a name for the sum over all labels. @returns 0 where it has not been counted. */
export async function counted(port: number, series: string): Promise<number> {
  const metrics = await new Promise<string>((resolve, reject) => {
    // Without an agent, no connection is left open.
    http
      .get({ host: '127.0.0.1', port, path: '/metrics', agent: false }, (response) => resolve(text(response)))
      .on('error', reject);
  });
  const lines = metrics.split('\n').filter((line) => line.startsWith(`${series} `) || line.startsWith(`${series}{`));
  return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0);
}

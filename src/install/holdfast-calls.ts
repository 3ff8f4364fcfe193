/**
 * What Holdfast itself says of the calls that came through it: /metrics, on the admin socket, and where there is none on the `metrics`
 * address of its configuration.
 */
import http from 'node:http';
import { parse } from 'yaml';
import { address } from '../config/kinds.js';
import type { Machine } from './machine.js';
import { paths } from './paths.js';

const timeoutMs = 2_000;
/** A kubelet lists each second, and cannot do without. */
const listMethod = 'ListPodSandbox';

/** @returns How many lists of pod sandboxes came through since Holdfast started; undefined where it does not say. */
export async function listsThrough({ files }: Pick<Machine, 'files'>): Promise<number | undefined> {
  const text =
    (await metrics({ socketPath: files.real(paths.adminSocket) })) ??
    (await metricsByAddress(files.text(paths.config)));
  if (text === undefined) return undefined;
  let lists = 0;
  for (const line of text.split('\n')) {
    const [, labels, value] = /^holdfast_calls_total\{(.*)\} (\S+)$/.exec(line) ?? [];
    if (labels?.includes(`method="${listMethod}"`)) lists += Number(value);
  }
  return lists;
}

async function metricsByAddress(config: string | undefined): Promise<string | undefined> {
  try {
    const { metrics: text } = (parse(config ?? '') ?? {}) as Readonly<Record<string, unknown>>;
    const at = typeof text === 'string' ? address.parse(text) : undefined;
    return at && (await metrics({ host: at.host === '' ? '127.0.0.1' : at.host, port: at.port }));
  } catch {
    return undefined;
  }
}

function metrics(where: { socketPath: string } | { host: string; port: number }): Promise<string | undefined> {
  return new Promise((resolve) => {
    const request = http.get({ ...where, path: '/metrics', timeout: timeoutMs, agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        text += chunk;
      });
      response.on('end', () => resolve(response.statusCode === 200 ? text : undefined));
      response.on('error', () => resolve(undefined));
    });
    request.on('timeout', () => request.destroy());
    request.on('error', () => resolve(undefined));
  });
}

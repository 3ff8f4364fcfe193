/** h2load as the client: one run, and what it measured. */
import { execFile } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { promisify } from 'node:util';

const run = promisify(execFile);

export interface Load {
  /** Path of the call, `/package.Service/Method`. */
  readonly path: string;
  readonly calls: number;
  /** Streams open at once, on one connection. */
  readonly atOnce: number;
}

export interface Measured {
  readonly perSecond: number;
  readonly meanMs: number;
  readonly p99Ms: number;
  /** DATA received, all calls together. */
  readonly dataBytes: number;
}

/**
 * @param directory For h2load's files.
 * @throws A call did not succeed.
 */
export async function h2load(socket: string, directory: string, load: Load, requestFile: string): Promise<Measured> {
  const log = `${directory}/h2load.tsv`;
  rmSync(log, { force: true });
  const { stdout } = await run('h2load', [
    ...['-n', String(load.calls), '-c', '1', '-m', String(load.atOnce), '-d', requestFile, '-B', `unix:${socket}`],
    ...['-H', 'content-type: application/grpc', '-H', 'te: trailers', `--log-file=${log}`],
    `http://localhost${load.path}`,
  ]);
  const [, perSecond] = /^finished in .*, ([\d.]+) req\/s/m.exec(stdout) ?? [];
  const [, succeeded] = /^requests: .* (\d+) succeeded/m.exec(stdout) ?? [];
  const [, dataBytes] = /^traffic: .*\((\d+)\) data$/m.exec(stdout) ?? [];
  if (Number(succeeded) !== load.calls) throw new Error(`h2load on ${socket}: not every call succeeded\n${stdout}`);
  const tookMs = readFileSync(log, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => Number(line.split('\t')[2]) / 1000)
    .sort((a, b) => a - b);
  return {
    perSecond: Number(perSecond),
    meanMs: tookMs.reduce((sum, ms) => sum + ms, 0) / tookMs.length,
    p99Ms: tookMs[Math.ceil(tookMs.length * 0.99) - 1] ?? Number.NaN,
    dataBytes: Number(dataBytes),
  };
}

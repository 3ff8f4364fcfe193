import { Writable } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import t from 'tap';
import { logOutput } from '../../src/commands/log-output.js';

/** 1 MiB with its end. */
const line = `${'x'.repeat(1024 * 1024 - 1)}\n`;

/** A pipe whose reader takes nothing until it is told to. */
class Pipe extends Writable {
  bytes = 0;
  #waiting: (() => void) | undefined;
  #isRead = false;

  override _writev(chunks: { chunk: Buffer }[], callback: () => void): void {
    for (const { chunk } of chunks) this.bytes += chunk.length;
    if (this.#isRead) callback();
    else this.#waiting = callback;
  }

  read(): void {
    this.#isRead = true;
    this.#waiting?.();
  }
}

t.test('how many lines were lost is said when the reader is back', async (t) => {
  const pipe = new Pipe();
  const output = logOutput(pipe);
  const said: number[] = [];
  output.onLost = (lines) => said.push(lines);
  for (let n = 0; n < 7; n++) output.write(line);
  await turn();
  t.same(said, [], 'not while nobody reads');
  pipe.read();
  await turn();
  t.same(said, [3]);
  t.equal(pipe.bytes, 4 * line.length);

  output.write(line);
  await output.ended();
  t.equal(pipe.bytes, 5 * line.length, 'and lines are taken again');
  t.same(said, [3]);
});

t.test('nothing is said where nothing was lost', async (t) => {
  const pipe = new Pipe();
  const output = logOutput(pipe);
  output.onLost = () => t.fail('lost');
  output.write(line);
  await turn();
  pipe.read();
  await output.ended();
  t.equal(pipe.bytes, line.length);
});

import t from 'tap';
import { StreamTable } from '../../../src/proxy/http2/stream-table.js';
import { ManualClock } from '../../support/manual-clock.js';

t.test('what comes in one read comes at the same time, and all else when it comes', async (t) => {
  const clock = new ManualClock();
  const table = new StreamTable(clock, () => {});
  const after = async (ms: number) => {
    await clock.advance(ms);
    table.answered();
    return table.lastAnswerMs;
  };
  const begunMs = clock.now();
  t.equal(await after(1), begunMs + 1);
  t.equal(await after(1), begunMs + 2);
  table.turnBegins();
  t.equal(await after(1), begunMs + 3);
  t.equal(await after(1), begunMs + 3);
  table.turnEnds();
  t.equal(await after(1), begunMs + 5);
  t.equal(await after(1), begunMs + 6);
  table.turnBegins();
  t.equal(await after(1), begunMs + 7);
});

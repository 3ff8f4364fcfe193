import t from 'tap';
import { TurnClock } from '../../../src/proxy/http2/turn-clock.js';
import { ManualClock } from '../../support/manual-clock.js';

t.test('what comes in one read comes at the same time, and all else when it comes', async (t) => {
  const manual = new ManualClock();
  const clock = new TurnClock(manual);
  const after = async (ms: number) => {
    await manual.advance(ms);
    return clock.now();
  };
  const begunMs = manual.now();
  t.equal(await after(1), begunMs + 1);
  t.equal(await after(1), begunMs + 2);
  clock.turnBegins();
  t.equal(await after(1), begunMs + 3);
  t.equal(await after(1), begunMs + 3);
  clock.turnEnds();
  t.equal(await after(1), begunMs + 5);
  t.equal(await after(1), begunMs + 6);
  clock.turnBegins();
  t.equal(await after(1), begunMs + 7);
});

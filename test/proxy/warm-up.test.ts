import t from 'tap';
import { warmUp } from '../../src/proxy/warm-up.js';
import { ManualClock } from '../support/manual-clock.js';

t.test('each made-up pod goes all the way and leaves no timer', async (t) => {
  const clock = new ManualClock();
  const lines: { step: string; kind: string }[] = [];
  await warmUp(clock, (line) => lines.push(JSON.parse(line)));
  const count = (kind: string, step: string) => lines.filter((line) => line.kind === kind && line.step === step).length;
  const sandboxes = count('podSandbox', 'queued');
  t.ok(sandboxes > 0);
  t.equal(count('podSandbox', 'delivered'), sandboxes);
  t.equal(count('container', 'delivered'), sandboxes);
  t.equal(count('start', 'answered'), sandboxes);
  t.equal(clock.pending, 0);
});

import t from 'tap';
import { AbandonedCalls } from '../../src/cache/abandoned-calls.js';
import { DroppedError } from '../../src/cache/detached-call.js';

/** Names of the calls that were dropped, in order. */
function stage(maxCalls: number, maxBytes: number) {
  const dropped: string[] = [];
  const call = (name: string) => ({
    fail: (error: unknown) => void dropped.push(error instanceof DroppedError ? name : String(error)),
  });
  return { abandoned: new AbandonedCalls(maxCalls, maxBytes), dropped, call };
}

t.test('beyond so many calls the oldest are dropped', async (t) => {
  const { abandoned, dropped, call } = stage(2, 1000);
  for (const name of ['a', 'b', 'c', 'd']) abandoned.add(call(name), 1);
  t.strictSame(dropped, ['a', 'b']);
});

t.test('beyond so many bytes the oldest are dropped, the newest too where it is too large itself', async (t) => {
  const { abandoned, dropped, call } = stage(100, 1000);
  abandoned.add(call('a'), 400);
  abandoned.add(call('b'), 400);
  abandoned.add(call('c'), 400);
  t.strictSame(dropped, ['a']);
  abandoned.add(call('d'), 1001);
  t.strictSame(dropped, ['a', 'b', 'c', 'd']);
});

t.test('a call that is asked for again, or begun, does not count, and one abandoned again is the newest', async (t) => {
  const { abandoned, dropped, call } = stage(2, 1000);
  const [a, b] = [call('a'), call('b')];
  abandoned.add(a, 900);
  abandoned.delete(a);
  abandoned.delete(a);
  abandoned.add(b, 900);
  abandoned.add(a, 100);
  abandoned.add(b, 900);
  t.strictSame(dropped, []);
  abandoned.add(call('c'), 0);
  t.strictSame(dropped, ['a']);
});

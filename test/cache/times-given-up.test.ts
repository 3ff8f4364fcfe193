import t from 'tap';
import { TimesGivenUp } from '../../src/cache/times-given-up.js';
import { podSandbox } from './store-rig.js';

const pod = (uid: string) => podSandbox(0, 'h', uid).fingerprint;

t.test('times are told by pod, whatever the attempt, until they are forgotten', (t) => {
  const times = new TimesGivenUp(10);
  t.equal(times.of(pod('a')), 0);
  times.note(pod('a'), 1);
  times.note(podSandbox(1, 'h', 'a').fingerprint, 2);
  t.same([times.of(pod('a')), times.of(pod('b'))], [2, 0]);
  times.forget(pod('a'));
  t.equal(times.of(pod('a')), 0);
  t.end();
});

t.test('where there are too many the oldest is forgotten', (t) => {
  const times = new TimesGivenUp(2);
  for (const uid of ['a', 'b', 'c']) times.note(pod(uid), 1);
  t.same([times.of(pod('a')), times.of(pod('b')), times.of(pod('c'))], [0, 1, 1]);
  t.end();
});

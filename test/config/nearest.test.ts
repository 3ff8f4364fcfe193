import t from 'tap';
import { didYouMean, nearest } from '../../src/config/nearest.js';

const names = ['listen', 'hold-ttl', 'replay-ttl', 'max-entries', 'max-hung', 'pressure-io', 'ab'];

t.test('a name with a letter missing, too many, wrong or in the wrong place is found', async (t) => {
  for (const [given, name] of [
    ['lisen', 'listen'],
    ['listten', 'listen'],
    ['lisden', 'listen'],
    ['lsiten', 'listen'],
    ['max-entires', 'max-entries'],
    ['ac', 'ab'],
  ] as const) {
    t.equal(nearest(given, names), name, given);
  }
});

t.test('letters that changed places are one mistake', async (t) => {
  t.equal(nearest('ba', names), 'ab');
});

t.test('capitals, hyphens and underscores do not count', async (t) => {
  for (const given of ['holdTtl', 'HOLD_TTL', 'holdttl', 'hold-ttl', '--hold-ttl']) {
    t.equal(nearest(given, names), 'hold-ttl', given);
  }
});

t.test('what is like none of them is like none of them', async (t) => {
  for (const given of ['', 'metrics', 'hold', 'constructor', 'xyz']) t.equal(nearest(given, names), undefined, given);
});

t.test('the nearest of several wins', async (t) => {
  t.equal(nearest('pressure-oi', ['pressure-cpu', 'pressure-io']), 'pressure-io');
  t.equal(nearest('max-hug', ['max-hug-es', 'max-hung']), 'max-hung');
});

t.test('advice is a question, or nothing', async (t) => {
  t.equal(didYouMean('lisen', names, '--'), '; did you mean --listen?');
  t.equal(didYouMean('fly', names, '--'), '');
});

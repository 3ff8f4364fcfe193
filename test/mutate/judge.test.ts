import t from 'tap';
import { idle, judge, type Outcome, scores } from '../../mutate/judge.js';

const outcome = (file: string, state: Outcome['state'], more: Partial<Outcome> = {}): Outcome => ({
  file,
  line: 1,
  column: 0,
  endLine: 1,
  endColumn: 1,
  text: 'if (a > b) return;',
  mutator: 'EqualityOperator',
  from: 'a > b',
  to: 'a >= b',
  state,
  ...more,
});

const equivalent = { file: 'a.ts', line: 'if (a > b) return;', by: ['a >= b'], why: 'they are never equal' };

t.test('a survivor is explained by a reason for its file, its line and what stands there instead', (t) => {
  const outcomes = [
    outcome('a.ts', 'survived'),
    outcome('a.ts', 'survived', { to: 'a\n  >= b' }),
    outcome('a.ts', 'survived', { to: 'true' }),
    outcome('a.ts', 'survived', { text: 'if (c > d) return;' }),
    outcome('b.ts', 'survived'),
    outcome('a.ts', 'killed'),
  ];
  const whys = judge(outcomes, [equivalent]).map(({ why }) => why);
  t.same(whys, ['they are never equal', 'they are never equal', undefined, undefined, undefined]);
  const { by: _, ...whatever } = equivalent;
  t.equal(judge(outcomes, [whatever])[2]?.why, 'they are never equal', 'a reason may be for whatever stands there');
  t.end();
});

t.test('a reason is idle when its file was broken and nothing was changed that it is for', (t) => {
  const survived = [outcome('a.ts', 'survived')];
  t.same(idle(survived, [equivalent]), []);
  t.same(idle([outcome('a.ts', 'killed')], [equivalent]), [], 'a reason that is not needed here may be elsewhere');
  t.same(idle([outcome('a.ts', 'survived', { text: 'if (a > c) return;' })], [equivalent]), [equivalent]);
  t.same(idle([outcome('b.ts', 'killed')], [equivalent]), [], 'its file was not broken');
  t.end();
});

t.test('the score of a file is of what no reason explains and what could be run', (t) => {
  const outcomes = [
    outcome('b.ts', 'survived'),
    outcome('a.ts', 'killed'),
    outcome('a.ts', 'killed'),
    outcome('a.ts', 'killed'),
    outcome('a.ts', 'survived'),
    outcome('a.ts', 'survived', { to: 'true' }),
    outcome('a.ts', 'error'),
    outcome('c.ts', 'error'),
  ];
  t.same(scores(outcomes, judge(outcomes, [equivalent])), [
    { file: 'a.ts', killed: 3, explained: 1, survived: 1, errors: 1, percent: 75 },
    { file: 'b.ts', killed: 0, explained: 0, survived: 1, errors: 0, percent: 0 },
    { file: 'c.ts', killed: 0, explained: 0, survived: 0, errors: 1, percent: 100 },
  ]);
  t.end();
});

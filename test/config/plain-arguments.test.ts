import fc from 'fast-check';
import t from 'tap';
import createYargs from 'yargs';
import { options } from '../../src/config/options.js';
import { plainArguments } from '../../src/config/plain-arguments.js';

const known = Object.values(options).map(({ name }) => name);

/** As src/cli.ts and src/commands/serve.ts set it up. */
function byYargs(args: readonly string[]): Record<string, unknown> {
  const parser = createYargs()
    .strict()
    .parserConfiguration({ 'camel-case-expansion': false, 'dot-notation': false, 'short-option-groups': false })
    .exitProcess(false)
    .fail((said: string | null, error: unknown) => {
      throw said === null ? error : new Error(said);
    });
  for (const name of known) parser.option(name, { type: 'string', requiresArg: true });
  const { _, $0, ...values } = parser.parseSync([...args]);
  return values;
}

t.test('what is read is what yargs reads', async (t) => {
  const value = fc.oneof(
    fc.constantFrom(
      '5m',
      '0660',
      '/run/h.sock',
      'unix:///r.sock',
      'a=b',
      '20%',
      '',
      '-1',
      "'q'",
      'a b',
      'true',
      '1e3',
      '0x1f',
    ),
    fc.string(),
  );
  const name = fc.constantFrom(...known, 'unknown', 'no-link-logs');
  const option = fc.oneof(
    fc.tuple(name, value).map(([one, given]) => [`--${one}=${given}`]),
    fc.tuple(name, value).map(([one, given]) => [`--${one}`, given]),
    value.map((given) => [given]),
  );
  let read = 0;
  fc.assert(
    fc.property(fc.array(option, { maxLength: 3 }), (given) => {
      const args = given.flat();
      const plain = plainArguments(args, known);
      if (plain === undefined) return;
      read += 1;
      t.strictSame(plain, byYargs(args), args.join(' '));
    }),
    { seed: 1, numRuns: 300 },
  );
  t.ok(read > 20, `${read} were plain`);
});

t.test('a unit file is plain', async (t) => {
  t.strictSame(plainArguments(['--listen=/run/h.sock', '--hold-ttl', '5m'], known), {
    listen: '/run/h.sock',
    'hold-ttl': '5m',
  });
  t.strictSame(plainArguments([], known), {});
});

t.test('what leaves a doubt is left to yargs', async (t) => {
  for (const args of [
    ['--help'],
    ['--hold-ttl'],
    ['--hold-ttl='],
    ['--hold-ttl', '--listen=/a'],
    ['--hold-ttl=5m', '--hold-ttl=6m'],
    ['--no-link-logs'],
    ['--hold-ttl="5m"'],
    ['--hold-ttl', '-5m'],
    ['more'],
    ['--'],
  ]) {
    t.equal(plainArguments(args, known), undefined, args.join(' '));
  }
});

import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { main } from '../src/cli.js';
import { configOption, options } from '../src/config/options.js';

const directory = mkdtempSync(join(tmpdir(), 'hf-cli-'));
t.teardown(() => rmSync(directory, { recursive: true }));

async function run(args: string[], env: Record<string, string> = {}) {
  const result = { code: -1, stdout: '', stderr: '' };
  result.code = await main(args, {
    env,
    stdout: { write: (text) => (result.stdout += text) },
    stderr: { write: (text) => (result.stderr += text) },
  });
  return result;
}

const runtime = join(directory, 'runtime.sock');
const listen = join(directory, 'listen.sock');
const serve = ['serve', `--listen=${listen}`, `--runtime=${runtime}`];

t.test('--help of serve explains every option in its group with its default', async (t) => {
  const { code, stdout, stderr } = await run(['serve', '--help']);
  t.equal(code, 0);
  t.equal(stderr, '');
  for (const option of [...Object.values(options), configOption]) {
    t.match(stdout, new RegExp(`^  --${option.name} `, 'm'), option.name);
    t.match(stdout, new RegExp(`^${option.group}:$`, 'm'));
  }
  t.match(stdout, /--hold-ttl .*\n?.*\[default: 15m\]/);
  t.match(stdout, 'HOLDFAST_HOLD_TTL');
  t.match(stdout, /\nExample: holdfast serve --listen \S+ --runtime\s+\S+\n$/, 'and ends with how to call it');
});

t.test('help and version come with every usual word for them', async (t) => {
  const { stdout } = await run(['serve', '--help']);
  for (const args of [
    ['serve', '-h'],
    ['help', 'serve'],
  ]) {
    t.same(await run(args), { code: 0, stdout, stderr: '' }, args.join(' '));
  }
  const { stdout: top } = await run(['--help']);
  for (const args of [['-h'], ['help']]) t.same(await run(args), { code: 0, stdout: top, stderr: '' }, args.join(' '));
  t.same(await run(['version']), await run(['--version']));
});

t.test('--version is the version of the package', async (t) => {
  t.match(await run(['--version']), { code: 0, stdout: /^\d+\.\d+\.\d+\n$/, stderr: '' });
});

t.test('without a command the help goes to stderr and the run has failed', async (t) => {
  t.match(await run([]), { code: 2, stdout: '', stderr: /holdfast serve(.|\n)*holdfast demo(.|\n)*holdfast bench/ });
});

const misunderstood: [what: string, args: string[], said: RegExp][] = [
  ['a mistyped command', ['srve'], /unknown command srve; did you mean serve\?/],
  ['a command like no other', ['fly'], /unknown command fly; there are serve, install, uninstall, check, /],
  ['a mistyped option', [...serve, '--hold-tll', '1m'], /unknown option --hold-tll; did you mean --hold-ttl\?/],
  ['an option in camel case', [...serve, '--holdTtl=1m'], /unknown option --holdTtl; did you mean --hold-ttl\?/],
  [
    'a mistyped option of a command that is loaded later',
    ['bench', '--pds=3'],
    /unknown option --pds; did you mean --pods\?/,
  ],
  [
    'an option like no other',
    [...serve, '--constructor', '1m'],
    /unknown option --constructor; holdfast serve --help lists/,
  ],
  ['a mistyped option without a command', ['--verzion'], /unknown option --verzion; did you mean --version\?/],
  ['options without a command', ['--listen', '/l'], /a command is missing: serve, install, .*before all options/],
  ['an option before its command', ['--link-logs', 'serve'], /--link-logs belongs behind the command/],
  ['a command that is a property of every object', ['constructor'], /unknown command constructor; there are/],
  ['an argument too many', [...serve, 'more'], /more: an argument too many/],
  [
    'a relative socket',
    ['serve', '--runtime=/r', '--listen=l.sock'],
    /--listen: "l\.sock" is not allowed; give the absolute path/,
  ],
  ['a shell that is none', ['completion', 'fish'], /completion: "fish" is not allowed; give one of bash, zsh/],
  ['no shell at all', ['completion'], /SHELL: "" is not allowed; give one of bash, zsh/],
  ['an option without its value', ['serve', '--runtime', '/r', '--listen'], /--listen: a value is missing/],
  ['an argument left out', ['forget'], /an argument is missing: holdfast forget <pod>/],
  ['a negated option that is no flag', [...serve, '--no-metrics'], /unknown option --no-metrics/],
  ['an option given twice', [...serve, '--hold-ttl=1m', '--hold-ttl=2m'], /--hold-ttl: \["1m","2m"\] are 2 values/],
  ['a flag given both ways', [...serve, '--link-logs=true', '--no-link-logs'], /link-logs/],
  ['a refused value', [...serve, '--max-entries', 'many'], /--max-entries: "many" is not allowed; give a whole number/],
  ['a flag that is neither true nor false', [...serve, '--link-logs=maybe'], /--link-logs: "maybe" is not allowed/],
  ['a number with leading dash', [...serve, '--max-entries', '-5'], /--max-entries/],
  ['a missing runtime', ['serve', '--listen=/l'], /--runtime is missing/],
  ['a missing listening socket', ['serve', '--runtime=/r'], /--listen is missing/],
  ['a scenario that is not there', ['bench', '--scenario=fast-cni'], /--scenario: "fast-cni" is no file, and none of/],
  [
    'an arm that is not there',
    ['bench', '--arms=direct,podman'],
    /--arms: "direct,podman" is not allowed; give one of/,
  ],
  ['no pods', ['bench', '--pods=0'], /--pods: "0" is not allowed; give a whole number from 1 to/],
  ['fewer pods than are critical', ['bench', '--scenario=critical-first', '--pods=4'], /--pods: 4 are fewer than .* 5/],
  ['a seed that is no number', ['bench', '--seed=x'], /--seed: "x" is not allowed; give a whole number/],
  ['no repeat', ['bench', '--repeat=0'], /--repeat: "0" is not allowed/],
  ['a result twice', ['bench', '--json=a', '--json=b'], /--json: \["a","b"\] are 2 values; give it once/],
  [
    'a result nowhere',
    ['bench', '--html=/no/such/directory/a.html'],
    /--html: .* is not allowed; give a file in a dir/,
  ],
  ['a runtime that is no socket', ['bench', '--runtime=tcp://a:1'], /--runtime: "tcp:\/\/a:1" is not allowed/],
  ['a runtime that does not answer', ['bench', `--runtime=${runtime}`], /--runtime: .*runtime\.sock does not answer: /],
  ['an image without a runtime', ['bench', '--image=a'], /--image means nothing without --runtime/],
  ['an option of bench negated', ['bench', '--no-json'], /unknown option --no-json/],
  ['one socket for both sides', ['serve', '--runtime=/r', '--listen=unix:///r'], /are the same socket/],
];
for (const [what, args, said] of misunderstood) {
  t.test(`${what} is one line on stderr and exit code 2`, async (t) => {
    const { code, stdout, stderr } = await run(args);
    t.equal(code, 2);
    t.equal(stdout, '');
    t.match(stderr, /^holdfast: [^\n]+\n$/);
    t.match(stderr, said);
  });
}

t.test('the environment is read, and a wrong value there named by its variable', async (t) => {
  t.match(await run(serve, { HOLDFAST_MAX_ENTRIES: '0' }), {
    code: 2,
    stderr: /^holdfast: HOLDFAST_MAX_ENTRIES: "0" is not/,
  });
});

t.test('values keep their text: no number, array or path is read into them', async (t) => {
  t.match((await run([...serve, '--log-level', 'x.y'])).stderr, '--log-level: "x.y"');
  t.match((await run([...serve, '--max-entries=0x10'])).stderr, '"0x10"');
});

t.test('a socket that cannot be listened on is one line on stderr and exit code 1', async (t) => {
  writeFileSync(join(directory, 'file'), '');
  const { code, stderr } = await run([
    'serve',
    '--log-level=fatal',
    `--runtime=${runtime}`,
    '--listen',
    join(directory, 'file'),
  ]);
  t.equal(code, 1);
  t.match(stderr, /^holdfast: --listen: cannot listen on [^\n]*file: it is there and not a socket[^\n]*\n$/);
});

t.test('serve --dry-run says whether the configuration is understood, and serves nothing', async (t) => {
  const config = join(directory, 'holdfast.yaml');
  const dryRun = ['serve', '--dry-run', '--config', config];
  writeFileSync(config, `runtime: ${runtime}\n`);
  const understood = { code: 0, stdout: 'the configuration is understood\n', stderr: '' };
  t.same(await run(dryRun), understood, 'a socket may be passed, so that none is missed');
  writeFileSync(config, `runtime: ${runtime}\nlisten: ${listen}\n`);
  t.same(await run(dryRun), understood);
  t.notOk(existsSync(listen));
  writeFileSync(config, `runtime: ${runtime}\nhold-tttl: 5m\n`);
  t.match(await run(dryRun), { code: 2, stdout: '', stderr: /^holdfast: unknown key "hold-tttl"/ });
  writeFileSync(config, `runtime: ${runtime}\nlisten: ${runtime}\n`);
  t.match(await run(dryRun), { code: 2, stderr: /are the same socket/ });
});

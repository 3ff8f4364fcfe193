import { execFileSync } from 'node:child_process';
import { linkSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import type { HoldfastConfig } from '../../src/config/config.js';
import { ConfigError } from '../../src/config/config-error.js';
import { defaults } from '../../src/config/defaults.js';
import { configOption, environmentName, options } from '../../src/config/options.js';
import { resolveConfig } from '../../src/config/resolve.js';

const directory = mkdtempSync(join(tmpdir(), 'holdfast-config-'));
t.teardown(() => rmSync(directory, { recursive: true }));

const sockets = { listen: '/run/holdfast-test/a.sock', runtime: 'unix:///run/holdfast-test/b.sock' };

function resolve(argv: Record<string, unknown>, env: Record<string, string> = {}): HoldfastConfig {
  return resolveConfig({ argv: { ...sockets, ...argv }, env });
}

/** The message of the refusal; a call that is not refused gives a text no test expects. */
function refusal(argv: Record<string, unknown>, env: Record<string, string> = {}): string {
  try {
    resolve(argv, env);
    return 'not refused';
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.message;
  }
}

function file(name: string, content: string): string {
  const path = join(directory, name);
  writeFileSync(path, content);
  return path;
}

t.test('with the two sockets alone everything else has its default', async (t) => {
  const config = resolve({});
  t.same(config, { listen: '/run/holdfast-test/a.sock', runtime: '/run/holdfast-test/b.sock', ...defaults });
  t.match(config, {
    creationTimeoutMs: 900_000,
    holdTtlMs: 900_000,
    replayTtlMs: 900_000,
    maxEntries: 10_000,
    onDrift: 'keep',
    onAttemptBump: 'join',
    volatileAnnotations: ['kubernetes.io/config.seen'],
    linkLogs: true,
    drainTimeoutMs: 10_000,
    logLevel: 'info',
  });
  t.equal(config.socketMode, undefined);
  t.equal(config.metrics, undefined);
  t.ok(config.maxCreations >= 64);
  t.match(config, { admission: 'adaptive', handlerLimits: [], criticalNamespaces: ['kube-system'] });
  t.equal(config.creationRate, undefined);
});

t.test('the configuration cannot be changed', async (t) => {
  const config = resolve({ metrics: ':9090' });
  for (const part of [config, config.metrics, config.volatileAnnotations, defaults]) t.ok(Object.isFrozen(part));
});

t.test('every default passes its own check and every option has a name of its own', async (t) => {
  for (const option of Object.values(options)) {
    if (option.default !== undefined) t.not(option.kind.parse(option.default), undefined, option.name);
  }
  const names = [...Object.values(options).map((option) => option.name), configOption.name];
  t.equal(new Set(names).size, names.length);
});

t.test('command line wins over environment, environment over file, file over default', async (t) => {
  const config = file('precedence.yaml', 'hold-ttl: 1m\nreplay-ttl: 1m\ncreation-timeout: 1m\n');
  const env = { HOLDFAST_HOLD_TTL: '2m', HOLDFAST_REPLAY_TTL: '2m', HOLDFAST_CONFIG: config };
  t.match(resolve({ 'hold-ttl': '3m' }, env), {
    holdTtlMs: 180_000,
    replayTtlMs: 120_000,
    creationTimeoutMs: 60_000,
    drainTimeoutMs: 10_000,
  });
});

t.test('the sockets can come from environment and file', async (t) => {
  const config = file('sockets.yaml', 'listen: unix:///run/holdfast-test/l.sock\n');
  t.match(resolveConfig({ argv: { config }, env: { HOLDFAST_RUNTIME: '/run/holdfast-test/r.sock' } }), {
    listen: '/run/holdfast-test/l.sock',
    runtime: '/run/holdfast-test/r.sock',
  });
});

t.test('environment names are the options in capitals, and an empty one counts as not set', async (t) => {
  t.equal(environmentName('creation-timeout'), 'HOLDFAST_CREATION_TIMEOUT');
  t.equal(resolve({}, { HOLDFAST_METRICS: '' }).metrics, undefined);
  t.equal(resolve({}, { HOLDFAST_LINK_LOGS: 'false' }).linkLogs, false);
  t.same(resolve({}, { HOLDFAST_VOLATILE_ANNOTATION: 'a,b/c' }).volatileAnnotations, ['a', 'b/c']);
});

t.test('a variable of a Kubernetes service named holdfast is not taken for an option', async (t) => {
  t.match(resolve({}, { HOLDFAST_SERVICE_HOST: '10.0.0.1', HOLDFAST_PORT: 'tcp://10.0.0.1:1' }), {
    holdTtlMs: 900_000,
  });
});

t.test('a missing socket whose variable is mistyped is told so', async (t) => {
  t.match(
    refusal({ runtime: undefined }, { HOLDFAST_RUNTME: '/r' }),
    /^--runtime is missing: .*; HOLDFAST_RUNTME is set: did you mean HOLDFAST_RUNTIME\?$/,
  );
  t.notMatch(refusal({ listen: undefined }, { HOLDFAST_RUNTME: '/r' }), /RUNTME/);
});

t.test('YAML and JSON files mean what the command line means', async (t) => {
  const yaml = file(
    'all.yaml',
    'socket-mode: 0600 # as written\nmax-entries: 5\nlink-logs: false\non-drift: recreate\nmetrics: "[::1]:9090"\n' +
      'volatile-annotation:\n  - a\n  - b\n',
  );
  const json = file(
    'all.json',
    '{\n\t"socket-mode": "0600",\n\t"max-entries": 5,\n\t"link-logs": false,\n\t"on-drift": "recreate",\n' +
      '\t"metrics": "[::1]:9090",\n\t"volatile-annotation": ["a", "b"]\n}',
  );
  const expected = {
    socketMode: 0o600,
    maxEntries: 5,
    linkLogs: false,
    onDrift: 'recreate',
    metrics: { host: '::1', port: 9090 },
    volatileAnnotations: ['a', 'b'],
  };
  t.match(resolve({ config: yaml }), expected);
  t.match(resolve({ config: json }), expected);
  t.same(resolve({ config: file('empty.yaml', '# nothing\n') }), resolve({}));
  t.same(resolve({ config: file('none.yaml', 'volatile-annotation: []\n') }).volatileAnnotations, []);
});

t.test('a repeated list option collects, any other given twice is an error', async (t) => {
  t.same(resolve({ 'volatile-annotation': ['a', 'b,c'] }).volatileAnnotations, ['a', 'b', 'c']);
  t.equal(refusal({ 'hold-ttl': ['1m', '2m'] }), '--hold-ttl: ["1m","2m"] are 2 values; give it once');
  t.equal(refusal({ config: ['a', 'b'] }), '--config: ["a","b"] are 2 values; give it once');
});

t.test('limits that contradict each other are an error that names both', async (t) => {
  t.equal(refusal({ 'min-creations': '9', 'max-creations': '8' }), '--min-creations 9 is more than --max-creations 8');
  t.equal(
    refusal({ 'start-creations': '9', 'max-creations': '8' }),
    '--start-creations 9 is more than --max-creations 8',
  );
  t.equal(
    refusal({ 'start-creations': '3', 'min-creations': '4' }),
    '--start-creations 3 is less than --min-creations 4',
  );
  t.equal(refusal({ 'creation-burst': '3' }), '--creation-burst 3 means nothing without --creation-rate');
  t.match(resolve({ 'max-creations': '1' }), { maxCreations: 1 });
  t.match(resolve({ 'creation-rate': '0.5', 'creation-burst': '3' }), { creationRate: 0.5, creationBurst: 3 });
});

t.test('a runtime handler has one limit', async (t) => {
  t.same(resolve({ 'handler-limit': ['kata=4', 'gvisor=8'] }).handlerLimits, [
    { handler: 'kata', limit: 4 },
    { handler: 'gvisor', limit: 8 },
  ]);
  t.match(refusal({ 'handler-limit': ['kata=4', 'kata=5'] }), /^--handler-limit: .* each only once$/);
});

t.test('a refused value is one line with the option as it was given, the value and what is allowed', async (t) => {
  const allowed = 'a duration from 100ms to 24h, like 250ms, 90s, 5m or 1h30m';
  const config = file('wrong.yaml', 'creation-timeout: 90\n');
  t.equal(refusal({ 'creation-timeout': '5x' }), `--creation-timeout: "5x" is not allowed; give ${allowed}`);
  t.equal(
    refusal({}, { HOLDFAST_CREATION_TIMEOUT: '25h' }),
    `HOLDFAST_CREATION_TIMEOUT: "25h" is not allowed; give ${allowed}`,
  );
  t.equal(refusal({ config }), `creation-timeout in ${config}: "90" is not allowed; give ${allowed}`);
  t.equal(refusal({ 'on-drift': 'a\nb' }), '--on-drift: "a\\nb" is not allowed; give one of keep, recreate');
  t.match(
    refusal({ 'max-entries': '1'.repeat(5000) }),
    /^--max-entries: "1{199}… is not allowed; give a whole number from 1 to 1000000$/,
  );
  t.equal(refusal({ 'hold-ttl': false }), 'unknown option --no-hold-ttl');
  t.equal(resolve({ 'link-logs': false }).linkLogs, false);
});

t.test('every option refuses nonsense by its own name', async (t) => {
  for (const { name } of Object.values(options)) {
    t.match(refusal({ [name]: 'no://sense !' }), `--${name}: "no://sense !" is not allowed; give `);
  }
});

t.test('a file value of the wrong shape is refused', async (t) => {
  for (const [name, content, said] of [
    ['map.yaml', 'hold-ttl: {a: 1m}\n', '{"a":"1m"}'],
    ['list.yaml', 'hold-ttl: [1m]\n', '["1m"]'],
    ['deep.yaml', 'volatile-annotation: [[a]]\n', '[["a"]]'],
    ['null.yaml', 'hold-ttl:\n', '""'],
  ] as const) {
    t.match(refusal({ config: file(name, content) }), `in ${join(directory, name)}: ${said} is not allowed; give `);
  }
});

t.test('an unknown key of the file is an error that names it', async (t) => {
  const config = file('unknown.yaml', 'hold-ttl: 1m\nholdTtl: 1m\n');
  t.equal(refusal({ config }), `unknown key "holdTtl" in ${config}; did you mean hold-ttl?`);
  t.match(refusal({ config: file('variable.yaml', 'HOLDFAST_MAX_ENTRIS: 1\n') }), /; did you mean max-entries\?$/);
  t.match(refusal({ config: file('far.yaml', 'apiVersion: v1\n') }), /; allowed are listen, runtime, /);
  t.match(refusal({ config: file('nested.yaml', 'config: other.yaml\n') }), 'unknown key "config"');
  t.match(refusal({ config: file('proto.yaml', '__proto__: x\n') }), 'unknown key "__proto__"');
});

t.test('a file that cannot be read is one line that names it', async (t) => {
  const missing = join(directory, 'missing.yaml');
  t.match(refusal({ config: missing }), `--config: cannot read "${missing}": ENOENT`);
  t.match(refusal({}, { HOLDFAST_CONFIG: directory }), `HOLDFAST_CONFIG: cannot read "${directory}": EISDIR`);
  t.match(refusal({ config: '' }), '--config: "" is not allowed; give the path of a YAML or JSON file');
  const fifo = join(directory, 'fifo');
  execFileSync('sh', ['-c', 'mkfifo "$0"', fifo]);
  for (const path of [fifo, '/dev/zero']) {
    t.equal(refusal({ config: path }), `--config: cannot read "${path}": it is not a regular file`);
  }
  const long = file('long.yaml', `listen: ${'x'.repeat(1024 * 1024)}`);
  t.equal(refusal({ config: long }), `--config: cannot read "${long}": it has 1048584 bytes, and may have 1048576`);
  for (const content of [
    'a: [',
    'a: 1\na: 2\n',
    '- a\n',
    'text',
    'a: *b\n',
    '{"a": 1',
    'a: 1\n---\nb: 2\n',
    '? {a: b}\n: 1\n',
  ]) {
    const message = refusal({ config: file('broken.yaml', content) });
    t.match(message, /broken\.yaml/, JSON.stringify(content));
    t.notMatch(message, /\n/, JSON.stringify(content));
  }
});

t.test('a file that is no YAML is said to be that, with the place', async (t) => {
  for (const [content, place, why] of [
    ['hold-ttl: 1m\nhandler-limit: [a=1\nhold-ttl: 1m\n', ', line 3, column 1', /Flow sequence in block collection/],
    ['hold-ttl: 1m\nhold-ttl: 2m\n', ', line 2, column 1', /Map keys must be unique$/],
    ['hold-ttl: 1m\n---\nreplay-ttl: 1m\n', ', line 2, column 1', /a second document begins here$/],
    ['log-level: "info\r\n', ', line 2, column 1', /Missing closing "quote$/],
    ['{"hold-ttl": 1', ', line 1, column 15', /must end with a }$/],
    ['hold-ttl: *x\n', '', /Unresolved alias/],
  ] as const) {
    const message = refusal({ config: file('no.yaml', content) });
    t.ok(message.startsWith(`--config: cannot parse "${join(directory, 'no.yaml')}"${place}: `), message);
    t.match(message, why);
  }
  for (const bytes of [Buffer.from('\ufeffhold-ttl: 1m\n', 'utf16le'), Buffer.from([0x68, 0xff])]) {
    const path = join(directory, 'bytes.yaml');
    writeFileSync(path, bytes);
    t.equal(refusal({ config: path }), `--config: cannot parse "${path}": it is not text in UTF-8`);
  }
});

t.test('a byte order mark and lines that end in CR LF mean nothing', async (t) => {
  t.match(resolve({ config: file('windows.yaml', '\ufeffhold-ttl: 1m\r\nreplay-ttl: 2m\r\n') }), {
    holdTtlMs: 60_000,
    replayTtlMs: 120_000,
  });
});

t.test('a file that expands without bound is refused', async (t) => {
  const rows = 'abcdefgh'
    .split('')
    .map((name, row, names) => `${name}: &${name} [${row === 0 ? 'x' : Array(9).fill(`*${names[row - 1]}`)}]`);
  t.match(refusal({ config: file('bomb.yaml', rows.join('\n')) }), /bomb\.yaml": Excessive alias count/);
});

t.test('a missing socket is named, with the ways to give it', async (t) => {
  for (const name of ['listen', 'runtime']) {
    t.match(
      refusal({ [name]: undefined }),
      new RegExp(
        `^--${name} is missing: give the absolute path .*HOLDFAST_${name.toUpperCase()}, or ${name} in the --config file`,
      ),
    );
  }
});

t.test('Holdfast is never made its own runtime', async (t) => {
  const at = (name: string) => join(directory, name);
  const real = file('real.sock', '');
  mkdirSync(at('d'));
  symlinkSync(at('d'), at('linked-d'));
  symlinkSync('real.sock', at('link.sock'));
  symlinkSync('d/later.sock', at('dangling.sock'));
  symlinkSync(at('loop.sock'), at('loop.sock'));
  linkSync(real, at('hard.sock'));
  const same = [
    [at('x.sock'), `unix://${at('x.sock')}`],
    [real, at('link.sock')],
    [real, at('hard.sock')],
    [at('d/x.sock'), at('linked-d/x.sock')],
    [at('d/later.sock'), at('dangling.sock')],
    [at('d/no/such/x.sock'), at('linked-d/no/such/x.sock')],
  ] as const;
  for (const [listen, runtime] of same) {
    t.match(refusal({ listen, runtime }), /^--listen .* and --runtime .* are the same socket/, runtime);
    t.match(refusal({ listen: runtime, runtime: listen }), /are the same socket/, `${runtime}, the other way round`);
  }
  t.match(resolve({ listen: at('loop.sock'), runtime: at('x.sock') }), { listen: at('loop.sock') });
  t.match(resolve({ listen: at('d/x.sock'), runtime: at('x.sock') }), { listen: at('d/x.sock') });
});

t.test('a socket that was passed is the one to listen on, whatever names it', async (t) => {
  const { runtime } = sockets;
  const path = join(directory, 'passed.sock');
  const passed = { path };
  const listen = (argv: object) => resolveConfig({ argv: { runtime, ...argv }, env: {}, passed }).listen;
  t.equal(listen({}), path);
  t.equal(listen({ listen: `unix://${path}` }), path);
  const other = '/run/holdfast-test/a.sock';
  t.throws(() => listen({ listen: other }), {
    name: 'ConfigError',
    message: `--listen ${other} is not the socket that was passed, ${path}: leave it out`,
  });
  t.throws(() => resolveConfig({ argv: { runtime: path }, env: {}, passed }), { message: /are the same socket/ });
});

t.test('of a socket that was passed and whose path is not to be seen, the path has to be given', (t) => {
  const { listen, runtime } = sockets;
  const passed = { path: undefined };
  t.throws(() => resolveConfig({ argv: { runtime }, env: {}, passed }), {
    message:
      /^--listen is missing: give .*; a socket was passed, but its path is not to be seen, .*\(PrivateNetwork=\)$/,
  });
  t.throws(() => resolveConfig({ argv: { listen }, env: {}, passed }), { message: /^--runtime is missing: [^;]*$/ });
  t.equal(resolveConfig({ argv: { listen, runtime }, env: {}, passed }).listen, listen);
  t.end();
});

t.test('the admin socket is one of its own, and a group is for it alone', (t) => {
  const sockets = { listen: '/run/l.sock', runtime: '/run/r.sock' };
  const resolved = (argv: Record<string, string>) => resolveConfig({ argv: { ...sockets, ...argv }, env: {} });
  t.match(resolved({ admin: 'unix:///run/a.sock', 'admin-group': 'adm' }), { admin: '/run/a.sock', adminGroup: 'adm' });
  t.throws(
    () => resolved({ admin: '/run/l.sock' }),
    /--admin \/run\/l.sock and --listen \/run\/l.sock are the same socket/,
  );
  t.throws(() => resolved({ admin: '/run/r.sock' }), /--admin \/run\/r.sock and --runtime/);
  t.throws(() => resolved({ 'admin-group': '0' }), /--admin-group 0 means nothing without --admin/);
  t.throws(() => resolved({ admin: '/run/a.sock', 'admin-group': 'a:b' }), /--admin-group: "a:b" is not allowed/);
  t.end();
});

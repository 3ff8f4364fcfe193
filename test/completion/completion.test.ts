/** `holdfast completion`, loaded into real shells. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t from 'tap';
import { main } from '../../src/cli.js';
import { options } from '../../src/config/options.js';
import { find } from '../e2e/support/programs.js';

const directory = mkdtempSync(path.join(tmpdir(), 'hf-completion-'));
t.teardown(() => rmSync(directory, { recursive: true }));
writeFileSync(path.join(directory, 'my node.yaml'), '');

async function scriptFor(...args: string[]): Promise<string> {
  let output = '';
  const stdout = { write: (text: string) => (output += text) };
  t.equal(await main(['completion', ...args], { env: { SHELL: '/usr/bin/zsh' }, stdout, stderr: process.stderr }), 0);
  return output;
}

/** Runs `program` in a shell without start-up files. @returns The lines it printed. */
function linesOf(shell: string, args: readonly string[], program: string): string[] {
  const { stdout, stderr, status } = spawnSync(shell, [...args, '-c', program], { cwd: directory, encoding: 'utf8' });
  t.equal(stderr, '');
  t.equal(status, 0);
  return stdout.split('\n').filter((line) => line !== '');
}

const allOptions = Object.values(options).map(({ name }) => `--${name}`);

t.test('bash completes commands, options, values and files', { skip: !find('bash') && 'no bash' }, async (t) => {
  const script = await scriptFor('bash');
  /** @param words As bash takes the line apart; the last one is being typed. */
  const complete = (...words: string[]) =>
    linesOf(
      'bash',
      ['--norc', '--noprofile'],
      `${script}
complete -p holdfast
COMP_WORDS=(holdfast ${words.map((word) => `'${word}'`).join(' ')}) COMP_CWORD=${words.length}
_holdfast
printf '%s\\n' "\${COMPREPLY[@]}"`,
    ).slice(1);
  t.strictSame(complete('s'), ['serve', 'status', 'sidecar']);
  t.match(complete(''), [
    'serve',
    'install',
    'uninstall',
    'check',
    'status',
    'forget',
    'sidecar',
    'demo',
    'bench',
    'completion',
  ]);
  t.strictSame(complete('--he'), ['--help']);
  t.strictSame(complete('serve', '--hold'), ['--hold-ttl']);
  t.strictSame(
    complete('serve', '').filter((word) => allOptions.includes(word)),
    allOptions,
  );
  t.strictSame(complete('serve', '--on-drift', ''), ['keep', 'recreate']);
  t.strictSame(complete('serve', '--on-drift', '=', 'r'), ['recreate']);
  t.strictSame(complete('serve', '--on-drift', '='), ['keep', 'recreate']);
  t.strictSame(complete('serve', '--on-drift=r'), ['--on-drift=recreate'], 'where = does not break words');
  t.strictSame(complete('serve', '--hold-ttl', ''), [], 'nothing, rather than file names, for a duration');
  t.strictSame(complete('serve', '--link-logs', 'true', '--admis'), ['--admission']);
  t.strictSame(complete('bench', '--scenario', 'slow-c'), ['slow-cni', 'slow-create']);
  t.strictSame(complete('bench', '--scenario', 'my'), ['my node.yaml']);
  t.strictSame(complete('serve', '--config', ''), ['my node.yaml']);
  t.strictSame(complete('bench', '--yes-this-node', '--html'), ['--html'], 'a flag has no value');
  t.strictSame(complete('completion', ''), ['bash', 'zsh']);
});

t.test('zsh completes the same, each option with what it means', { skip: !find('zsh') && 'no zsh' }, async (t) => {
  const script = await scriptFor('zsh');
  const complete = (...words: string[]) =>
    linesOf(
      'zsh',
      ['-f'],
      `compdef() { : }
compset() { PREFIX=\${PREFIX#*=} }
compadd() { shift; print -l -- \${(M)@:#$PREFIX*} }
_files() { print -l -- $PREFIX*(N) }
_describe() { print -l -- \${(M)\${(P)@[-1]}:#$PREFIX*} }
${script}
words=(holdfast ${words.map((word) => `'${word}'`).join(' ')}) CURRENT=${words.length + 1} PREFIX='${words.at(-1)}'
_holdfast`,
    );
  t.strictSame(complete('ser'), ['serve:Stand between the kubelet and its container runtime']);
  t.match(complete('serve', '--hold'), [/^--hold-ttl:How long a finished container/]);
  t.strictSame(complete('serve', '--on-drift', ''), ['keep', 'recreate']);
  t.strictSame(complete('serve', '--on-drift=r'), ['recreate']);
  t.strictSame(complete('serve', '--hold-ttl', ''), []);
  t.strictSame(complete('bench', '--scenario', 'my'), ['my node.yaml']);
  t.strictSame(complete('completion', ''), ['bash', 'zsh']);
});

t.test('without a shell named it is the one of SHELL', async (t) => {
  t.match(await scriptFor(), /^#compdef holdfast\n/);
});

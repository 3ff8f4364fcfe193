/** `holdfast bench` as it is run. Needs the built program. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import type { Report } from '../../src/harness/report-data.js';
import { until } from '../e2e/support/until.js';

const executable = fileURLToPath(new URL('../../bin/holdfast.js', import.meta.url));
// They wait for other processes.
t.jobs = 2;

interface Bench {
  readonly process: ChildProcess;
  /** Where its temporary files go. */
  readonly temporary: string;
  readonly directory: string;
  readonly exit: Promise<[number | null, NodeJS.Signals | null]>;
  readonly output: { stdout: string; stderr: string };
}

function start(test: Test, sandboxTime: string, ...args: string[]): Bench {
  const directory = mkdtempSync(path.join(tmpdir(), 'hf-cmd-'));
  test.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const temporary = path.join(directory, 't');
  mkdirSync(temporary);
  writeFileSync(
    path.join(directory, 's.yaml'),
    `{description: Quick, pods: 2, watch: 60s, side-by-side: true, runtime: {run-pod-sandbox: ${sandboxTime}}}`,
  );
  const child = spawn(process.execPath, [executable, 'bench', '--scenario=s.yaml', ...args], {
    cwd: directory,
    env: { ...process.env, TMPDIR: temporary },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const output = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].on('data', (chunk: Buffer) => {
      output[name] += chunk;
    });
  }
  const exit = once(child, 'close') as Bench['exit'];
  test.teardown(() => child.kill('SIGKILL'));
  return { process: child, temporary, directory, exit, output };
}

/** Processes that were told of this directory. */
function processesAt(directory: string): number {
  if (process.platform !== 'linux') return 0;
  const commandLine = (pid: string) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
    } catch {
      return '';
    }
  };
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name) && commandLine(name).includes(directory)).length;
}

async function holdfastServes({ temporary }: Bench): Promise<void> {
  await until('Holdfast serves', () =>
    readdirSync(temporary, { recursive: true }).some((name) => /h\.sock$/.test(`${name}`)),
  );
}

t.test('it writes table, JSON and page, and leaves nothing else behind', async (t) => {
  const bench = start(t, '10ms', '--pods=3', '--seed=5', '--json=out.json', '--html=out.html');
  t.strictSame(await bench.exit, [0, null], bench.output.stderr);
  const report: Report = JSON.parse(readFileSync(path.join(bench.directory, 'out.json'), 'utf8'));
  t.match(report, { scenario: 's', seed: 5, pods: 3, repeats: 1 });
  t.strictSame(
    report.arms.map(({ name, converged, leftOvers }) => ({ name, converged, leftOvers })),
    [
      { name: 'direct', converged: true, leftOvers: 0 },
      { name: 'holdfast', converged: true, leftOvers: 0 },
    ],
  );
  t.match(bench.output.stdout, /direct/);
  t.match(
    bench.output.stderr,
    /^s: 3 pods, direct, holdfast; takes up to 60 s /,
    'it says at once what it is about to do',
  );
  t.match(readFileSync(path.join(bench.directory, 'out.html'), 'utf8'), /^<!doctype html>/i);
  t.strictSame(readdirSync(bench.temporary), []);
  t.equal(processesAt(bench.temporary), 0);
});

t.test('what only simulated containers do is refused on a real runtime, and so are too few pods', async (t) => {
  const said = (...args: string[]) => promisify(execFile)(process.execPath, [executable, 'bench', ...args]);
  await Promise.all([
    t.rejects(said('--scenario=jobs', '--runtime=unix:///run/none.sock'), {
      code: 2,
      stderr: 'holdfast: --runtime: containers of jobs end by themselves, which only simulated ones do\n',
    }),
    t.rejects(said('--scenario=restarts', '--pods=2'), {
      code: 2,
      stderr: "holdfast: --pods: 2 are fewer than the scenario's 3 static pods\n",
    }),
  ]);
});

for (const [signal, code] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const) {
  t.test(`${signal} ends it with ${code}, and nothing is left behind`, async (t) => {
    const bench = start(t, '60s');
    await holdfastServes(bench);
    bench.process.kill(signal);
    // In haste, as people are.
    bench.process.kill(signal);
    t.strictSame(await bench.exit, [code, null], bench.output.stderr);
    t.equal(bench.output.stdout, '');
    t.strictSame(readdirSync(bench.temporary), []);
    t.equal(processesAt(bench.temporary), 0);
  });
}

t.test('Holdfast does not outlive a bench that is killed', { skip: process.platform !== 'linux' }, async (t) => {
  const bench = start(t, '60s');
  await holdfastServes(bench);
  t.not(processesAt(bench.temporary), 0);
  bench.process.kill('SIGKILL');
  await until('it has ended too', () => processesAt(bench.temporary) === 0);
});

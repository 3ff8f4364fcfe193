import { mkdirSync, mkdtempSync, readdirSync, readlinkSync, realpathSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pino } from 'pino';
import t, { type Test } from 'tap';
import type { ContainerFingerprint } from '../../src/cache/fingerprint.js';
import { podLogLinks } from '../../src/proxy/pod-log-links.js';
import { container, podSandbox } from '../cache/store-rig.js';

/** A pod's log directory with that of a container, `c`, in it, beside a directory that is not the pod's. */
function setUp(t: Test, isOn = true) {
  const root = realpathSync(mkdtempSync(path.join(tmpdir(), 'pod-log-links-')));
  t.teardown(() => rmSync(root, { recursive: true, force: true }));
  const logDirectory = path.join(root, 'pod');
  const outside = path.join(root, 'outside');
  mkdirSync(path.join(logDirectory, 'c'), { recursive: true });
  mkdirSync(outside);
  const lines: unknown[] = [];
  const links = podLogLinks(isOn, pino({ base: null }, { write: (line: string) => lines.push(JSON.parse(line)) }));
  const attempt = (attempt: number): ContainerFingerprint => {
    const { fingerprint } = container({ attempt });
    if (fingerprint.kind !== 'container') throw new Error('not a container');
    return { ...fingerprint, logDirectory };
  };
  const at = (logPath: string) => path.join(logDirectory, logPath);
  return { outside, at, attempt, lines, links, logs: () => readdirSync(at('c')) };
}

t.test('a container that is given as another attempt has its log under the name that was asked for', async (t) => {
  const { at, attempt, lines, links } = setUp(t);
  await links.given(attempt(1), attempt(0));
  t.equal(readlinkSync(at('c/1.log')), '0.log');
  t.strictSame(lines, []);
});

t.test('a container that is given as what was asked for has its log already', async (t) => {
  const { attempt, lines, links, logs } = setUp(t);
  await links.given(attempt(1), { ...attempt(1), logPath: 'c/0.log' });
  t.strictSame(logs(), []);
  t.strictSame(lines, []);
});

t.test('a pod sandbox has no log', async (t) => {
  const { at, attempt, lines, links, logs } = setUp(t);
  const fingerprint = { ...podSandbox(2).fingerprint, logDirectory: at('.') };
  await links.given(fingerprint, attempt(0));
  await links.given(attempt(0), fingerprint);
  await links.given(fingerprint, podSandbox(1).fingerprint);
  t.strictSame(logs(), []);
  t.strictSame(lines, []);
});

t.test('a log that cannot be linked is said, and no fault of the call', async (t) => {
  const { at, attempt, lines, links } = setUp(t);
  mkdirSync(at('c/1.log'));
  await links.given(attempt(1), attempt(0));
  const error = `Error: ${at('c/1.log')} is taken`;
  t.match(lines, [{ level: 40, asked: 'c/1.log', made: 'c/0.log', error, msg: 'log not linked' }]);
});

t.test('a container that is made writes into no log of another attempt', async (t) => {
  const { at, attempt, lines, links, logs } = setUp(t);
  symlinkSync('0.log', at('c/1.log'));
  await links.beforeContainer(attempt(1));
  t.strictSame(logs(), []);
  t.strictSame(lines, []);
});

t.test('a link that cannot be removed is said, and no fault of the call', async (t) => {
  const { outside, at, attempt, lines, links } = setUp(t);
  symlinkSync(outside, at('out'));
  symlinkSync('0.log', path.join(outside, '1.log'));
  await links.beforeContainer({ ...attempt(1), logPath: 'out/1.log' });
  t.strictSame(readdirSync(outside), ['1.log']);
  t.match(lines, [{ level: 40, asked: 'out/1.log', error: /leads out/, msg: 'link of a log not removed' }]);
});

t.test('where it is turned off, logs are left alone', async (t) => {
  const { at, attempt, lines, links, logs } = setUp(t, false);
  await links.given(attempt(1), attempt(0));
  t.strictSame(logs(), []);
  symlinkSync('0.log', at('c/1.log'));
  await links.beforeContainer(attempt(1));
  t.strictSame(logs(), ['1.log']);
  t.strictSame(lines, []);
});

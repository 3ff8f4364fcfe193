import { mkdirSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t from 'tap';
import type { ContainerFingerprint } from '../../src/cache/fingerprint.js';
import { linkLog } from '../../src/proxy/log-link.js';

const root = mkdtempSync(path.join(tmpdir(), 'hf-log-link-'));
t.teardown(() => rmSync(root, { recursive: true }));

/** A pod's log directory of its own, with the log of attempt 0. */
function pod(name: string) {
  const logDirectory = path.join(root, name);
  mkdirSync(path.join(logDirectory, 'app'), { recursive: true });
  writeFileSync(path.join(logDirectory, 'app', '0.log'), 'it ran\n');
  const logOf = (logPath: string, directory = logDirectory) =>
    ({ logPath, logDirectory: directory }) as ContainerFingerprint;
  return { logDirectory, logOf, logs: () => readdirSync(path.join(logDirectory, 'app')).sort() };
}

t.test('the log that was asked for is a link to the one that is written', async (t) => {
  const { logDirectory, logOf } = pod('linked');
  await linkLog(logOf('app/1.log'), logOf('app/0.log'));
  const link = path.join(logDirectory, 'app', '1.log');
  t.equal(readFileSync(link, 'utf8'), 'it ran\n');
  t.equal(readlinkSync(link), '0.log', 'also where the directory is mounted elsewhere');
});

t.test('a log that is there is left as it is', async (t) => {
  const { logDirectory, logOf } = pod('there');
  const own = path.join(logDirectory, 'app', '1.log');
  writeFileSync(own, 'of its own\n');
  await linkLog(logOf('app/1.log'), logOf('app/0.log'));
  t.equal(readFileSync(own, 'utf8'), 'of its own\n');
});

t.test('nothing is linked where a request names no log, or the same one', async (t) => {
  const { logOf, logs } = pod('unnamed');
  await linkLog(logOf(''), logOf('app/0.log'));
  await linkLog(logOf('app/1.log'), logOf(''));
  await linkLog(logOf('app/1.log', ''), logOf('app/0.log'));
  await linkLog(logOf('app/0.log'), logOf('app/0.log'));
  await linkLog(logOf('app/2.log'), logOf('app/2.log'));
  t.same(logs(), ['0.log']);
});

t.test('what the file system does not allow is said', async (t) => {
  const { logOf } = pod('refused');
  await t.rejects(linkLog(logOf('gone/1.log'), logOf('app/0.log')), { code: 'ENOENT' });
});

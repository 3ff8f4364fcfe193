import {
  existsSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import fs from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t, { type Test } from 'tap';
import { clearLogLink, linkLog } from '../../src/proxy/pod-logs.js';

/** A pod's log directory with that of a container, `app`, in it, beside a directory that is not the pod's. */
function newPod(t: Test) {
  const root = realpathSync(mkdtempSync(path.join(tmpdir(), 'pod-logs-')));
  t.teardown(() => rmSync(root, { recursive: true, force: true }));
  const logDirectory = path.join(root, 'pod');
  const outside = path.join(root, 'outside');
  mkdirSync(path.join(logDirectory, 'app'), { recursive: true });
  mkdirSync(outside);
  const log = (logPath: string) => ({ logDirectory, logPath });
  const at = (logPath: string) => path.join(logDirectory, logPath);
  const file = (logPath: string, text: string) => writeFileSync(at(logPath), text);
  const target = (logPath: string) => readlinkSync(at(logPath));
  return { root, logDirectory, outside, log, at, file, target };
}

t.test('the log that was asked for is a relative link to the one that is made', async (t) => {
  const { log, target, file, at } = newPod(t);
  await linkLog(log('app/1.log'), log('app/0.log'));
  t.equal(target('app/1.log'), '0.log', 'before the log is there');
  file('app/0.log', 'lines');
  t.equal(readFileSync(at('app/1.log'), 'utf8'), 'lines');
});

t.test('a lower attempt is linked to a higher one', async (t) => {
  const { log, target } = newPod(t);
  await linkLog(log('app/0.log'), log('app/1.log'));
  t.equal(target('app/0.log'), '1.log');
});

t.test('a link from one directory of the pod leads to the other', async (t) => {
  const { log, target, at, file } = newPod(t);
  mkdirSync(at('old'));
  await linkLog(log('app/1.log'), log('old/0.log'));
  t.equal(target('app/1.log'), '../old/0.log');
  await linkLog(log('2.log'), log('old/0.log'));
  file('old/0.log', 'lines');
  for (const name of ['app/1.log', '2.log']) t.equal(readFileSync(at(name), 'utf8'), 'lines');
});

t.test('nothing is linked where one of the two has no log, or both have the same', async (t) => {
  const { log, at } = newPod(t);
  await linkLog(log(''), log('app/0.log'));
  await linkLog(log('app/1.log'), log(''));
  await linkLog({ logDirectory: '', logPath: 'app/1.log' }, log('app/0.log'));
  await linkLog(log('app/1.log'), log('app/1.log'));
  t.strictSame(readdirSync(at('app')), []);
});

t.test('a link that is there already may stay', async (t) => {
  const { log, target, at } = newPod(t);
  await linkLog(log('app/1.log'), log('app/0.log'));
  const whenMade = new Date(1_000_000);
  lutimesSync(at('app/1.log'), whenMade, whenMade);
  await linkLog(log('app/1.log'), log('app/0.log'));
  t.equal(target('app/1.log'), '0.log');
  t.strictSame(lstatSync(at('app/1.log')).mtime, whenMade, 'it is not made anew');
});

t.test("a link to another attempt's log is replaced, dangling or not", async (t) => {
  const { log, target, file, at } = newPod(t);
  file('app/0.log', 'old');
  await linkLog(log('app/12.log'), log('app/0.log'));
  await linkLog(log('app/12.log'), log('app/10.log'));
  t.equal(target('app/12.log'), '10.log');
  await linkLog(log('app/12.log'), log('app/11.log'));
  t.equal(target('app/12.log'), '11.log');
  t.equal(readFileSync(at('app/0.log'), 'utf8'), 'old');
  t.strictSame(readdirSync(at('app')).sort(), ['0.log', '12.log']);
});

t.test('a file keeps its name, and that is no fault', async (t) => {
  const { log, file, at } = newPod(t);
  file('app/1.log', 'lines');
  await linkLog(log('app/1.log'), log('app/0.log'));
  t.notOk(lstatSync(at('app/1.log')).isSymbolicLink());
  t.equal(readFileSync(at('app/1.log'), 'utf8'), 'lines');
});

t.test('a directory or a link to anything else keeps its name, and that is said', async (t) => {
  const { log, at, outside, target } = newPod(t);
  mkdirSync(at('app/1.log'));
  symlinkSync('../../outside/0.log', at('app/2.log'));
  symlinkSync('container-json.log', at('app/3.log'));
  for (const name of ['app/1.log', 'app/2.log', 'app/3.log'])
    await t.rejects(linkLog(log(name), log('app/0.log')), { message: /is taken$/ });
  t.equal(target('app/2.log'), '../../outside/0.log');
  t.equal(target('app/3.log'), 'container-json.log');
  t.strictSame(readdirSync(outside), []);
});

t.test('two links never lead to each other', async (t) => {
  const { log, target, at } = newPod(t);
  await linkLog(log('app/1.log'), log('app/0.log'));
  await t.rejects(linkLog(log('app/0.log'), log('app/1.log')), { message: /is itself a link$/ });
  t.equal(target('app/1.log'), '0.log');
  t.notOk(existsSync(at('app/0.log')));
});

t.test('nothing is linked outside of the pod’s log directory', async (t) => {
  const { log, at, root, outside, logDirectory } = newPod(t);
  mkdirSync(`${logDirectory}-2`);
  symlinkSync(outside, at('out'));
  symlinkSync('..', at('up'));
  symlinkSync(`${logDirectory}-2`, at('beside'));
  const refused = [
    '../outside/1.log',
    '../../x',
    'app/../../outside/1.log',
    'app/..',
    'app/../1.log',
    'app/.',
    'app/',
    './1.log',
    'app//1.log',
    '.',
    '..',
    '/1.log',
    path.join(outside, '1.log'),
    'out/1.log',
    'up/1.log',
    'beside/1.log',
    'up/outside/1.log',
  ];
  for (const name of refused) {
    await t.rejects(linkLog(log(name), log('app/0.log')), { message: /log directory/ }, `asked for as ${name}`);
    await t.rejects(linkLog(log('app/1.log'), log(name)), { message: /log directory/ }, `made as ${name}`);
  }
  await t.rejects(linkLog({ logDirectory: 'pod', logPath: '1.log' }, log('app/0.log')), { message: /not absolute/ });
  const elsewhere = { logDirectory: outside, logPath: '0.log' };
  await t.rejects(linkLog(log('app/1.log'), elsewhere), { message: /not the log of this pod/ });
  t.strictSame(readdirSync(outside), []);
  t.strictSame(readdirSync(`${logDirectory}-2`), []);
  t.strictSame(readdirSync(at('app')), []);
  t.strictSame(readdirSync(root).sort(), ['outside', 'pod', 'pod-2']);
  t.strictSame(readdirSync(logDirectory).sort(), ['app', 'beside', 'out', 'up']);
});

t.test('a pod’s log directory may be reached through links', async (t) => {
  const { root, logDirectory, target } = newPod(t);
  symlinkSync(root, path.join(root, 'other-disk'));
  const through = path.join(root, 'other-disk', 'pod');
  await linkLog({ logDirectory: through, logPath: 'app/1.log' }, { logDirectory, logPath: 'app/1.log' });
  t.strictSame(readdirSync(path.join(logDirectory, 'app')), [], 'one log by two names is one log');
  await linkLog({ logDirectory: through, logPath: 'app/1.log' }, { logDirectory, logPath: 'app/0.log' });
  t.equal(target('app/1.log'), '0.log');
  t.equal(await clearLogLink({ logDirectory: through, logPath: 'app/1.log' }), true);
});

t.test('a log directory that is the root of the file system is one, too', async (t) => {
  const { at, target } = newPod(t);
  const log = (logPath: string) => ({ logDirectory: '/', logPath: path.relative('/', at(logPath)) });
  await linkLog(log('app/1.log'), log('app/0.log'));
  t.equal(target('app/1.log'), '0.log');
  t.equal(await clearLogLink(log('app/1.log')), true);
});

t.test('what the file system refuses is said', async (t) => {
  const { log, file } = newPod(t);
  await t.rejects(linkLog(log('gone/1.log'), log('app/0.log')), { code: 'ENOENT' });
  file('plain', '');
  await t.rejects(linkLog(log('plain/1.log'), log('app/0.log')), { code: 'ENOTDIR' });
});

t.test('the link is gone before the attempt writes a log of its own', async (t) => {
  const { log, at, file } = newPod(t);
  file('app/0.log', 'I am the first');
  await linkLog(log('app/1.log'), log('app/0.log'));
  t.equal(await clearLogLink(log('app/1.log')), true);
  file('app/1.log', 'I am the second');
  t.equal(readFileSync(at('app/0.log'), 'utf8'), 'I am the first');
  t.strictSame(readdirSync(at('app')).sort(), ['0.log', '1.log']);
});

t.test('dangling links, links of lower attempts and links into another directory are taken away', async (t) => {
  const { log, at } = newPod(t);
  mkdirSync(at('old'));
  await linkLog(log('app/1.log'), log('app/0.log'));
  await linkLog(log('app/2.log'), log('app/3.log'));
  await linkLog(log('app/4.log'), log('old/0.log'));
  symlinkSync('../gone/0.log', at('app/5.log'));
  symlinkSync(at('app/0.log'), at('app/6.log'));
  for (const attempt of [1, 2, 4, 5, 6]) t.equal(await clearLogLink(log(`app/${attempt}.log`)), true, `${attempt}`);
  t.strictSame(readdirSync(at('app')), []);
});

t.test('where no link is, nothing is taken away', async (t) => {
  const { log, at, file } = newPod(t);
  file('app/0.log', 'lines');
  mkdirSync(at('app/1.log'));
  for (const name of ['app/0.log', 'app/1.log', 'app/2.log', 'gone/0.log', 'app/0.log/0.log', ''])
    t.equal(await clearLogLink(log(name)), false, name);
  t.equal(await clearLogLink({ logDirectory: '', logPath: 'app/0.log' }), false);
  t.equal(await clearLogLink({ logDirectory: path.join(at('app'), 'gone'), logPath: '0.log' }), false);
  t.equal(readFileSync(at('app/0.log'), 'utf8'), 'lines');
  t.strictSame(readdirSync(at('app')).sort(), ['0.log', '1.log']);
});

t.test('a link to anything but an attempt’s log of this pod stays', async (t) => {
  const { log, at, outside } = newPod(t);
  const targets = {
    '0.log': '../../outside/0.log',
    '1.log': path.join(outside, '0.log'),
    '2.log': 'container-json.log',
    '3.log': '0.log.20260101',
    '4.log': '.',
    '5.log': 'x0.log',
    '6.log': '../../pod-2/0.log',
  };
  for (const [name, target] of Object.entries(targets)) {
    symlinkSync(target, at(`app/${name}`));
    t.equal(await clearLogLink(log(`app/${name}`)), false, target);
    t.equal(readlinkSync(at(`app/${name}`)), target);
  }
  t.strictSame(readdirSync(at('app')).sort(), Object.keys(targets));
});

t.test('no link outside of the pod’s log directory is taken away', async (t) => {
  const { log, at, outside, logDirectory } = newPod(t);
  symlinkSync(path.join(logDirectory, 'app', '0.log'), path.join(outside, '1.log'));
  symlinkSync(outside, at('out'));
  for (const name of ['../outside/1.log', 'app/../../outside/1.log', path.join(outside, '1.log')])
    t.equal(await clearLogLink(log(name)), false, name);
  await t.rejects(clearLogLink(log('out/1.log')), { message: /leads out/ });
  t.equal(await clearLogLink({ logDirectory: path.relative('.', outside), logPath: '1.log' }), false);
  t.strictSame(readdirSync(outside), ['1.log']);
});

t.test('a file that takes the name while its link is taken away is not lost', async (t) => {
  const { log, at } = newPod(t);
  const lost: number[] = [];
  for (let round = 0; round < 200; round++) {
    symlinkSync('0.log', at('app/1.log'));
    const cleared = clearLogLink(log('app/1.log'));
    // A different moment of the clearing in every round.
    for (let turn = 0; turn < round % 10; turn++) await new Promise((resolve) => setImmediate(resolve));
    rmSync(at('app/1.log'), { force: true });
    writeFileSync(at('app/1.log'), `${round}`);
    await cleared;
    if (readFileSync(at('app/1.log'), 'utf8') !== `${round}`) lost.push(round);
    unlinkSync(at('app/1.log'));
  }
  t.strictSame(lost, []);
  t.strictSame(readdirSync(at('app')), [], 'nothing is left aside');
});

t.test('of two that clear at once, one says that there was a link', async (t) => {
  const { log, at } = newPod(t);
  for (let round = 0; round < 20; round++) {
    symlinkSync('0.log', at('app/1.log'));
    const removed = await Promise.all([clearLogLink(log('app/1.log')), clearLogLink(log('app/1.log'))]);
    t.strictSame(removed.sort(), [false, true]);
  }
  t.strictSame(readdirSync(at('app')), []);
});

t.test('of two that link at once, each is content', async (t) => {
  const { log, target } = newPod(t);
  await Promise.all([1, 2, 3].map(() => linkLog(log('app/1.log'), log('app/0.log'))));
  t.equal(target('app/1.log'), '0.log');
});

t.test('a file that gives the name back while it is looked at makes way for the link', async (t) => {
  const { log, at, target } = newPod(t);
  writeFileSync(at('app/1.log'), 'lines');
  const { lstat } = fs;
  const lookBy = (look: (name: string) => Promise<unknown>) => {
    Object.assign(fs, { lstat: look });
    syncBuiltinESMExports();
  };
  t.teardown(() => lookBy(lstat));
  lookBy((name) => {
    rmSync(at('app/1.log'), { force: true });
    return lstat(name);
  });
  await linkLog(log('app/1.log'), log('app/0.log'));
  t.equal(target('app/1.log'), '0.log');
});

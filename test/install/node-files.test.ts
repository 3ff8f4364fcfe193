import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t, { type Test } from 'tap';
import { NodeFiles } from '../../src/install/node-files.js';

function node(t: Test) {
  const root = realpathSync(mkdtempSync(path.join(tmpdir(), 'hfr-')));
  t.teardown(() => rmSync(root, { recursive: true }));
  for (const folder of ['/data/kubelet', '/var/lib', '/run', '/usr/lib', '/etc']) {
    mkdirSync(root + folder, { recursive: true });
  }
  symlinkSync('/data/kubelet', `${root}/var/lib/kubelet`);
  symlinkSync('../run', `${root}/var/run`);
  return { root, files: new NodeFiles(root) };
}

t.test('a link of the node leads where it leads there, and not out of the root', async (t) => {
  const { root, files } = node(t);
  writeFileSync(`${root}/data/kubelet/config.yaml`, 'its');
  t.equal(files.text('/var/lib/kubelet/config.yaml'), 'its');
  t.strictSame(files.names('/var/lib/kubelet'), ['config.yaml']);
  t.equal(files.real('/var/run/x.sock'), `${root}/run/x.sock`);
  files.write('/var/lib/kubelet/config.yaml', 'ours');
  files.write('/var/lib/kubelet/new/file', 'new');
  t.equal(readFileSync(`${root}/data/kubelet/config.yaml`, 'utf8'), 'ours');
  t.equal(readFileSync(`${root}/data/kubelet/new/file`, 'utf8'), 'new');
  symlinkSync('../../../../../../etc/release', `${root}/etc/os-release`);
  writeFileSync(`${root}/etc/release`, 'ID=x');
  t.equal(files.text('/etc/os-release'), 'ID=x', 'no number of .. leads out of it');
});

t.test('a link itself is read, replaced and removed as a link', async (t) => {
  const { root, files } = node(t);
  writeFileSync(`${root}/etc/real`, 'text');
  files.link('/etc/link', '/etc/real');
  t.equal(files.linkTarget('/etc/link'), '/etc/real');
  files.write('/etc/link', 'other');
  t.ok(lstatSync(`${root}/etc/link`).isSymbolicLink());
  t.equal(files.text('/etc/real'), 'other');
  files.remove('/etc/link');
  t.equal(files.text('/etc/real'), 'other');
  files.link('/etc/nowhere', '/opt/nowhere');
  t.notOk(files.has('/etc/nowhere'));
  files.write('/etc/nowhere', 'here');
  t.equal(readFileSync(`${root}/etc/nowhere`, 'utf8'), 'here', 'one that leads nowhere is replaced');
});

t.test('links in a circle are an error, and a file in the place of a folder has nothing in it', async (t) => {
  const { root, files } = node(t);
  symlinkSync('b', `${root}/a`);
  symlinkSync('a', `${root}/b`);
  t.throws(() => files.text('/a/file'), { message: /too many symbolic links/ });
  writeFileSync(`${root}/etc/plain`, '');
  t.notOk(files.has('/etc/plain/under'));
  t.equal(files.text('/etc/plain/under'), undefined);
});

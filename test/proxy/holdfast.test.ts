/** The socket file of a whole Holdfast while the runtime is restarted, and while somebody tidies up. */
import { chmodSync, chownSync, lstatSync, rmSync } from 'node:fs';
import t from 'tap';
import { Rig } from '../support/rig.js';

const isRoot = process.geteuid?.() === 0;
const lookMs = 1_000;
const adopted = 'owner and mode of the socket file are those of the runtime now';

t.test('a runtime that comes back with a narrower mode, or another owner, gives them to the socket', async (t) => {
  const rig = await Rig.start(t);
  const modeOf = (path: string) => lstatSync(path).mode & 0o777;
  const adoptions = async (count: number) => {
    await rig.clock.advance(lookMs);
    await rig.logged(({ msg }) => msg === adopted, count);
  };
  chmodSync(rig.config.runtime, 0o666);
  await adoptions(1);
  t.equal(modeOf(rig.config.listen), 0o666);
  await rig.runtime.kill();
  await rig.runtime.listen();
  chmodSync(rig.config.runtime, 0o600);
  if (isRoot) chownSync(rig.config.runtime, 4711, 4712);
  await adoptions(2);
  t.equal(modeOf(rig.config.listen), 0o600);
  const { uid, gid } = lstatSync(rig.config.runtime);
  t.match(lstatSync(rig.config.listen), { uid, gid });
});

t.test('a deleted socket file is made again within a second, and who is connected stays', async (t) => {
  const rig = await Rig.start(t);
  await rig.client.call('Version');
  rmSync(rig.config.listen);
  await rig.clock.advance(lookMs);
  await rig.logged(({ msg }) => msg === 'the socket file was gone; listening again');
  const newcomer = rig.anotherClient();
  t.teardown(() => newcomer.close());
  t.equal((await newcomer.call('Version')).version, '0.1.0');
  t.equal((await rig.client.call('Version')).version, '0.1.0');
  t.equal(rig.lines.filter(({ msg }) => msg === 'connection opened').length, 2);
});

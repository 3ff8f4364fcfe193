/** More downstream connections than allowed. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import t from 'tap';
import { Rig } from '../support/rig.js';

/** Opens a connection that says nothing. */
async function idle(rig: Rig): Promise<Socket> {
  const socket = connect(rig.config.listen);
  socket.on('error', () => {}).resume();
  await once(socket, 'connect');
  return socket;
}

t.test('beyond the limit the connection that has been idle longest is closed, and the others go on', async (t) => {
  const rig = await Rig.start(t, { maxConnections: 3 });
  const { client } = rig;
  await client.call('Version');
  await rig.clock.advance(1);
  const first = await idle(rig);
  await rig.clock.advance(1);
  const second = await idle(rig);
  await rig.clock.advance(1);
  await client.call('Version');
  const closed = once(first, 'close');
  const third = await idle(rig);
  await closed;
  const call = rig.runtime.hold('runPodSandbox');
  const asked = rig.podSandbox(rig.pod());
  await call.arrived();
  const [secondClosed, thirdClosed] = [once(second, 'close'), once(third, 'close')];
  const others = [await idle(rig), await idle(rig)];
  await Promise.all([secondClosed, thirdClosed]);
  call.release();
  t.match(await asked, /./, 'a connection with a call in flight stays');
  t.match(await rig.metrics.registry.metrics(), 'holdfast_evicted_connections_total 3\n');
  t.equal(rig.lines.filter(({ msg }) => msg === 'connection evicted').length, 3);
  for (const socket of [...others, first, second, third]) socket.destroy();
});

t.test('where every connection is in use the new one is closed', async (t) => {
  const rig = await Rig.start(t, { maxConnections: 1 });
  const hold = rig.runtime.hold('runPodSandbox');
  const asked = rig.podSandbox(rig.pod());
  await hold.arrived();
  await once(await idle(rig), 'close');
  hold.release();
  t.match(await asked, /./);
  t.match(await rig.metrics.registry.metrics(), 'holdfast_evicted_connections_total 1\n');
});

/** More downstream connections than allowed, of a whole Holdfast. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import type { Test } from 'tap';
import t from 'tap';
import { connectionPreface } from '../../src/proxy/http2/frames.js';
import { Rig } from '../support/rig.js';
import { data, message, ping, request, settings } from './http2/wire.js';

const service = '/runtime.v1.RuntimeService';
const graceMs = 1000;
const latelyMs = 60_000;

/** Connections by hand; all are closed at the end of the test. */
class Sockets {
  readonly #rig: Rig;
  readonly #t: Test;

  constructor(t: Test, rig: Rig) {
    this.#t = t;
    this.#rig = rig;
  }

  /** Says nothing but `bytes`. */
  async open(bytes = Buffer.alloc(0)): Promise<Socket> {
    const opened = this.#rig.lines.filter(({ msg }) => msg === 'connection opened').length;
    const socket = connect(this.#rig.config.listen);
    this.#t.teardown(() => socket.destroy());
    const closed = new Promise((resolve) => socket.on('error', () => {}).once('close', resolve));
    socket.resume();
    await once(socket, 'connect');
    if (bytes.length > 0) socket.write(bytes);
    await Promise.race([this.#rig.logged(({ msg }) => msg === 'connection opened', opened + 1), closed]);
    return socket;
  }

  /** Opens a stream, and sends `body` on it; it is read once this resolves. */
  async stream(method: string, body: Buffer): Promise<Socket> {
    const frames = [settings(), request(1, `${service}/${method}`), data(1, body), ping('all read')];
    const socket = await this.open();
    socket.write(Buffer.concat([connectionPreface, ...frames]));
    for await (const chunk of socket.iterator({ destroyOnReturn: false })) {
      if ((chunk as Buffer).includes('all read')) break;
    }
    return socket.resume();
  }
}

async function started(t: Test, maxConnections: number): Promise<{ rig: Rig; sockets: Sockets }> {
  const rig = await Rig.start(t, { maxConnections });
  return { rig, sockets: new Sockets(t, rig) };
}

/** Cleanly or not. */
function closing(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    if (socket.closed) resolve();
    else socket.once('close', () => resolve());
  });
}

function isClosed(socket: Socket): boolean {
  return socket.closed || socket.readableEnded;
}

t.test(
  'beyond the limit the connection that has been idle longest is closed, and whoever is at work is served',
  async (t) => {
    const { rig, sockets } = await started(t, 3);
    await rig.client.call('Version');
    const first = await sockets.open();
    const second = await sockets.open();
    const closed = closing(first);
    const third = await sockets.open();
    await closed;
    t.equal(isClosed(second) || isClosed(third), false);
    const secondClosed = closing(second);
    await sockets.open();
    await secondClosed;
    t.match(await rig.client.call('Version'), { version: '0.1.0' });
    t.match(await rig.metrics.registry.metrics(), 'holdfast_evicted_connections_total 2\n');
    t.match(await rig.metrics.registry.metrics(), 'holdfast_refused_connections_total 0\n');
  },
);

t.test('who holds a subscription, or half a request, goes before who is idle', async (t) => {
  for (const [method, body] of [
    ['GetContainerEvents', message('')],
    ['RunPodSandbox', message(Buffer.alloc(100)).subarray(0, 50)],
  ] as const) {
    const { rig, sockets } = await started(t, 2);
    const idle = await sockets.open();
    const holding = await sockets.stream(method, body);
    const client = rig.anotherClient();
    t.teardown(() => client.close());
    await client.call('Version');
    await closing(holding);
    t.equal(isClosed(idle), false, method);
  }
});

t.test('a connection that has had an answer lately stays, whatever else it holds', async (t) => {
  const { rig, sockets } = await started(t, 2);
  const events = rig.client.stream('GetContainerEvents', {});
  events.on('error', () => {});
  await rig.client.call('Version');
  const leaked = await sockets.stream('GetContainerEvents', message(''));
  const closed = closing(leaked);
  await sockets.open();
  await closed;
  t.match(await rig.client.call('Version'), { version: '0.1.0' });
  t.equal(rig.lines.filter(({ msg }) => msg === 'connection opened').length, 3, 'over the same connection');
  events.cancel();
});

t.test('where all are at work the new one is refused: counted apart, and logged once a second', async (t) => {
  const { rig, sockets } = await started(t, 1);
  await rig.client.call('Version');
  for (let n = 0; n < 3; n++) t.equal(isClosed(await sockets.open()), true);
  const refused = () => rig.lines.filter(({ msg }) => msg === 'connection refused: all others are at work');
  t.strictSame(
    refused().map(({ times }) => times),
    [1],
  );
  await rig.clock.advance(1000);
  await sockets.open();
  t.strictSame(
    refused().map(({ times }) => times),
    [1, 3],
  );
  t.match(await rig.metrics.registry.metrics(), 'holdfast_refused_connections_total 4\n');
  t.match(await rig.metrics.registry.metrics(), 'holdfast_evicted_connections_total 0\n');
  t.match(await rig.client.call('Version'), { version: '0.1.0' });
});

t.test('where all have had an answer lately, who waits for nothing for longest makes room for who comes', async (t) => {
  const { rig, sockets } = await started(t, 3);
  const events = rig.client.stream('GetContainerEvents', {});
  events.on('error', () => {});
  await rig.client.call('Version');
  const [leaked, later] = [await sockets.stream('Version', message('')), await sockets.stream('Version', message(''))];
  for (const socket of [leaked, later]) {
    socket.write(data(1, Buffer.alloc(0), true));
    await once(socket, 'data');
  }
  await rig.clock.advance(9_000);
  t.equal(isClosed(await sockets.open()), true, 'they may be between two calls');
  await rig.clock.advance(1_000);
  const closed = closing(leaked);
  const kubelet = await sockets.stream('Version', message(''));
  await closed;
  t.strictSame([isClosed(later), isClosed(kubelet)], [false, false]);
  t.match(await rig.client.call('Version'), { version: '0.1.0' }, 'who is subscribed stays');
  t.equal(rig.lines.filter(({ msg }) => msg === 'connection opened').length, 4);
  events.cancel();
});

t.test('what was at work a minute ago may go, and its client loses nothing by it', async (t) => {
  const { rig, sockets } = await started(t, 1);
  await rig.client.call('Version');
  await rig.clock.advance(latelyMs);
  const idle = await sockets.open();
  t.equal(isClosed(idle), false);
  const closed = closing(idle);
  t.match(await rig.client.call('Version'), { version: '0.1.0' }, 'it was told to connect anew');
  await closed;
});

t.test('an evicted connection whose client does not read is closed all the same', async (t) => {
  const { rig, sockets } = await started(t, 1);
  // Their answers are more than a socket holds.
  const pings = Array.from({ length: 40_000 }, () => ping('unanswer'));
  const deaf = await sockets.open(Buffer.concat([connectionPreface, settings()]));
  deaf.pause();
  await new Promise((resolve) => deaf.write(Buffer.concat(pings), resolve));
  await sockets.open();
  const gone = rig.logged(({ msg }) => msg === 'connection closed');
  t.equal(rig.lines.filter(({ msg }) => msg === 'connection closed').length, 0, 'it is told, in vain');
  await rig.clock.advance(graceMs);
  await gone;
});

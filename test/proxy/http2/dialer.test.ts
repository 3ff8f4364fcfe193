/** One look for all who wait, for as long as somebody does. */
import fs from 'node:fs';
import net from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { Dialer } from '../../../src/proxy/http2/dialer.js';
import type { Port, PortEvents } from '../../../src/proxy/http2/port.js';
import { ManualClock } from '../../support/manual-clock.js';
import { socketPath, until } from './raw-runtime.js';

const silent: PortEvents = { received: () => {}, drained: () => {}, ended: () => {}, closed: () => {} };

/** A socket that somebody listens at, or does not. */
class Place {
  readonly path: string;
  accepted = 0;
  #server: net.Server | undefined;
  readonly #sockets: net.Socket[] = [];

  constructor(t: Test) {
    this.path = socketPath(t);
    t.teardown(() => this.close());
  }

  async open(): Promise<void> {
    const server = net.createServer((socket) => {
      this.accepted++;
      this.#sockets.push(socket.on('error', () => {}));
    });
    this.#server = server;
    await new Promise<void>((resolve) => server.listen(this.path, resolve));
  }

  send(text: string): void {
    for (const socket of this.#sockets) socket.write(text);
  }

  read(): void {
    for (const socket of this.#sockets) socket.resume();
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets.splice(0)) socket.destroy();
    const server = this.#server;
    this.#server = undefined;
    if (server !== undefined) await new Promise((resolve) => server.close(resolve));
  }
}

/** Tells of the looks for a runtime. */
class LookClock extends ManualClock {
  /** Before each look, in ms. */
  readonly pauses: number[] = [];
  /** Called while a look is under way. */
  looking = (): void => {};

  override after(delayMs: number, callback: () => void): () => void {
    this.pauses.push(delayMs);
    return super.after(delayMs, () => {
      callback();
      this.looking();
    });
  }
}

interface Scene {
  readonly place: Place;
  readonly clock: LookClock;
  readonly dialer: Dialer;
  readonly presence: string[];
  /** Names of those connected, in order. */
  readonly connected: string[];
  dial(name: string, events?: PortEvents): () => void;
}

function scene(t: Test): Scene {
  const place = new Place(t);
  const clock = new LookClock();
  const presence: string[] = [];
  const connected: string[] = [];
  const ports: Port[] = [];
  const dialer = new Dialer(place.path, clock, {
    appeared: () => presence.push('appeared'),
    vanished: (cause) => presence.push(`vanished: ${cause?.code}`),
  });
  t.teardown(() => {
    dialer.close();
    for (const port of ports) port.destroy();
  });
  const dial = (name: string, events = silent) =>
    dialer.dial(events, (port) => {
      ports.push(port);
      connected.push(name);
    });
  return { place, clock, dialer, presence, connected, dial };
}

/** Moves the clock until something has come of it, as a failed attempt takes real time. */
async function advanceUntil(clock: ManualClock, condition: () => boolean): Promise<number> {
  let waitedMs = 0;
  for (; !condition(); waitedMs += 50) {
    await clock.advance(50);
    await delay(2);
  }
  return waitedMs;
}

t.test('a runtime that is there is connected at once, by each on its own', async (t) => {
  const { place, clock, dial, connected, presence, dialer } = scene(t);
  await place.open();
  dial('a');
  dial('b');
  await until(() => connected.length === 2 && place.accepted === 2);
  t.strictSame(presence, ['appeared']);
  t.ok(dialer.isPresent);
  t.equal(clock.pending, 0);
});

t.test('connections are counted from when they are made until they are closed, attempts are not', async (t) => {
  const { place, dialer } = scene(t);
  let closed = 0;
  const ports: Port[] = [];
  const dial = () => dialer.dial({ ...silent, closed: () => closed++ }, (port) => ports.push(port));
  dial()();
  await delay(20);
  t.equal(dialer.open, 0, 'given up before anything came of it');
  await place.open();
  dial();
  dial();
  await until(() => ports.length === 2);
  t.equal(dialer.open, 2);
  ports[0]?.destroy();
  await until(() => closed === 1);
  t.equal(dialer.open, 1);
  ports[1]?.destroy();
  await until(() => closed === 2);
  t.equal(dialer.open, 0);
});

t.test(
  'a runtime that is not there is looked for once for all, at most every half second, and said once',
  async (t) => {
    const { clock, dial, presence, dialer, connected } = scene(t);
    for (let n = 0; n < 100; n++) dial(`${n}`);
    await until(() => presence.length === 1 && clock.pending === 1);
    t.strictSame(presence, ['vanished: ENOENT']);
    t.notOk(dialer.isPresent);
    for (let n = 0; n < 100; n++) {
      await clock.advance(100);
      t.ok(clock.pending <= 1);
    }
    t.strictSame(presence, ['vanished: ENOENT']);
    t.strictSame(connected, []);
  },
);

t.test('a socket nobody listens at is as good as none', async (t) => {
  const { place, presence, dial } = scene(t);
  const orphan = net.createServer();
  const file = `${place.path}.file`;
  await new Promise<void>((resolve) => orphan.listen(file, resolve));
  fs.renameSync(file, place.path);
  await new Promise((resolve) => orphan.close(resolve));
  dial('a');
  await until(() => presence.length === 1);
  t.strictSame(presence, ['vanished: ECONNREFUSED']);
});

t.test('a runtime that comes back is found within a second, and all who wait are connected', async (t) => {
  const { place, clock, dial, connected, presence, dialer } = scene(t);
  dial('a');
  dial('b');
  await until(() => presence.length === 1);
  // An attempt takes real time, and the pause behind it grows.
  for (let n = 0; n < 20; n++) {
    await clock.advance(500);
    await delay(2);
  }
  dial('c');
  await place.open();
  const waitedMs = await advanceUntil(clock, () => connected.length === 3);
  t.ok(waitedMs <= 1000, `${waitedMs} ms`);
  t.strictSame([...connected].sort(), ['a', 'b', 'c']);
  t.equal(connected[0], 'a', 'the one that waits longest looks');
  t.strictSame(presence, ['vanished: ENOENT', 'appeared']);
  t.ok(dialer.isPresent);
  t.equal(clock.pending, 0);
});

t.test('presence goes and comes with the runtime', async (t) => {
  const { place, clock, dial, connected, presence } = scene(t);
  await place.open();
  const seen = { end: false };
  const ended = () => {
    seen.end = true;
  };
  dial('a', { ...silent, ended });
  await until(() => connected.length === 1);
  await place.close();
  await until(() => seen.end);
  t.strictSame(presence, ['appeared'], 'the end of a connection says nothing of the runtime');
  dial('b');
  await until(() => presence.length === 2);
  await place.open();
  await advanceUntil(clock, () => connected.length === 2);
  t.strictSame(presence, ['appeared', 'vanished: ENOENT', 'appeared']);
});

t.test('who gives up is not connected, and nobody looks for nobody', async (t) => {
  const { place, clock, dial, connected, presence } = scene(t);
  const giveUps = [dial('a'), dial('b'), dial('c')];
  await until(() => presence.length === 1);
  giveUps[0]?.();
  giveUps[1]?.();
  await until(() => clock.pending === 1);
  giveUps[2]?.();
  t.equal(clock.pending, 0, 'nobody waits');
  dial('d');
  const waitedMs = await (async () => {
    await place.open();
    return advanceUntil(clock, () => connected.length === 1);
  })();
  t.strictSame(connected, ['d']);
  t.ok(waitedMs <= 1000);
  for (const giveUp of giveUps) giveUp();
  t.equal(clock.pending, 0);
});

t.test('when the one that looks gives up, another looks', async (t) => {
  const { place, clock, dial, connected, presence } = scene(t);
  const first = dial('a');
  dial('b');
  await until(() => presence.length === 1 && clock.pending === 1);
  clock.looking = first;
  await clock.advance(100);
  await place.open();
  await advanceUntil(clock, () => connected.length === 1);
  t.strictSame(connected, ['b']);
});

t.test('to give up during the first attempt is to leave nothing behind', async (t) => {
  const { place, clock, dial, connected, presence } = scene(t);
  await place.open();
  dial('a')();
  dial('b');
  await until(() => connected.length === 1);
  t.strictSame(connected, ['b']);
  t.strictSame(presence, ['appeared']);
  t.equal(clock.pending, 0);
});

t.test('who gives up while the others are being connected has no look made for them', async (t) => {
  const { place, clock, dial, connected } = scene(t);
  await place.open();
  const giveUp = dial('a');
  dial('b');
  giveUp();
  t.equal(clock.pending, 0);
  await until(() => connected.length === 1);
  t.strictSame(connected, ['b']);
});

t.test('the pauses between looks grow to half a second, and begin anew with the next absence', async (t) => {
  const { place, clock, dial, connected } = scene(t);
  dial('a');
  for (let n = 1; n <= 5; n++) {
    await until(() => clock.pauses.length === n);
    await clock.advance(500);
  }
  await until(() => clock.pauses.length === 6);
  t.strictSame(clock.pauses, [100, 200, 400, 500, 500, 500]);
  await place.open();
  await advanceUntil(clock, () => connected.length === 1);
  await place.close();
  clock.pauses.length = 0;
  dial('b');
  await until(() => clock.pauses.length === 1);
  t.strictSame(clock.pauses, [100]);
});

t.test('who comes when the runtime is there again has all who wait connected, without a look', async (t) => {
  const { place, clock, dial, connected } = scene(t);
  dial('a');
  await until(() => clock.pending === 1);
  await place.open();
  dial('b');
  await until(() => connected.length === 2);
  t.strictSame(connected, ['b', 'a']);
  t.equal(clock.pending, 0);
});

t.test('what a connection does is told to who has dialled it, with nobody to be told of the presence', async (t) => {
  const place = new Place(t);
  const dialer = new Dialer(place.path, new ManualClock());
  t.teardown(() => dialer.close());
  const seen: string[] = [];
  const events: PortEvents = {
    ...silent,
    received: (bytes) => seen.push(bytes.toString()),
    drained: () => seen.push('drained'),
  };
  const giveUp = dialer.dial(events, () => {});
  await until(() => !dialer.isPresent);
  giveUp();
  await place.open();
  let port: Port | undefined;
  dialer.dial(events, (connected) => {
    port = connected;
  });
  await until(() => port !== undefined && place.accepted === 1);
  place.send('hello');
  await until(() => seen.length === 1);
  port?.write([Buffer.alloc(10_000_000)]);
  place.read();
  await until(() => seen.length === 2);
  t.strictSame(seen, ['hello', 'drained']);
  port?.destroy();
});

t.test('who closes it on being told that the runtime is not there leaves no look behind', async (t) => {
  const clock = new ManualClock();
  let told = false;
  const dialer = new Dialer(socketPath(t), clock, {
    appeared: () => {},
    vanished: () => {
      told = true;
      dialer.close();
    },
  });
  dialer.dial(silent, () => {});
  await until(() => told);
  t.equal(clock.pending, 0);
});

t.test('a closed dialer connects nobody, who waits or is being connected', async (t) => {
  const { place, clock, dial, dialer, connected, presence } = scene(t);
  dial('a');
  await until(() => presence.length === 1);
  dial('b');
  dialer.close();
  t.equal(clock.pending, 0);
  await place.open();
  await clock.advance(10_000);
  // An attempt takes real time.
  await delay(20);
  t.strictSame(connected, []);
  t.equal(place.accepted, 0);
  t.equal(clock.pending, 0);
  const another = scene(t);
  await another.place.open();
  another.dial('c');
  another.dialer.close();
  await delay(20);
  t.strictSame(another.connected, []);
  t.equal(another.clock.pending, 0);
});

/** Which connections stay and which one goes, with links that are nothing but what they say of themselves. */
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { Socket } from 'node:net';
import { pino } from 'pino';
import t, { type Test } from 'tap';
import { Metrics } from '../../src/admin/metrics.js';
import { Connections } from '../../src/proxy/connections.js';
import type { Link } from '../../src/proxy/http2/link.js';
import { ManualClock, settle } from '../support/manual-clock.js';
import { soon } from '../support/soon.js';

const graceMs = 1_000;
const latelyMs = 60_000;
const idleMs = 10_000;

const work = '/runtime.v1.RuntimeService/RunPodSandbox';
const subscription = '/runtime.v1.RuntimeService/GetContainerEvents';

class FakeLink implements Link {
  readonly closed: Promise<void>;
  lastUse = 0;
  lastAnswerMs: number | undefined;
  isStalled = false;
  /** Paths of its open calls, ended by `end`. */
  calls: string[] = [];
  /** Of a call whose request is not whole. */
  half = false;
  isClosed = false;
  /** It has been told to take no new calls. */
  isTold = false;
  /** It closes in its own time, by `close`. */
  isSlow = false;
  /** Its client does not read: it cannot be told anything. */
  isDeaf = false;
  #resolveClosed = () => {};
  #drained = () => {};

  constructor(fields: Partial<FakeLink> = {}) {
    Object.assign(this, fields);
    this.closed = new Promise((resolve) => {
      this.#resolveClosed = resolve;
    });
  }

  get activeStreams(): number {
    return this.calls.length;
  }

  load(isStreaming: (path: string) => boolean): 'none' | 'waits' | 'calls' {
    if (this.calls.some((path) => !isStreaming(path))) return 'calls';
    return this.half || this.calls.length > 0 ? 'waits' : 'none';
  }

  drain(isStreaming: (path: string) => boolean): Promise<void> {
    this.isTold = true;
    return new Promise((resolve) => {
      this.#drained = () => {
        if (!this.isDeaf && this.calls.every(isStreaming)) resolve();
      };
      this.#drained();
    });
  }

  end(paths: readonly string[]): void {
    this.calls = this.calls.filter((path) => !paths.includes(path));
    this.#drained();
  }

  destroy(): void {
    if (!this.isSlow) this.close();
  }

  close(): void {
    this.isClosed = true;
    this.#resolveClosed();
  }
}

interface Line {
  readonly level: number;
  readonly msg: string;
  readonly connection?: number;
  readonly connections?: number;
  readonly ageMs?: number;
  readonly times?: number;
}

/** @param maxConnections Undefined: what the limit of open files allows. */
function setUp(maxConnections: number | undefined) {
  const clock = new ManualClock();
  const metrics = new Metrics();
  const lines: Line[] = [];
  const log = pino(
    { level: 'trace', base: null, timestamp: false },
    { write: (line: string) => lines.push(JSON.parse(line)) },
  );
  const coming: FakeLink[] = [];
  const opened = new Map<Socket, FakeLink>();
  const connections = new Connections({
    clock,
    metrics,
    log,
    maxConnections,
    open(downstream) {
      const link = coming.shift() ?? new FakeLink();
      opened.set(downstream, link);
      return link;
    },
  });
  const count = async (name: string) =>
    Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(await metrics.registry.metrics())?.[1]);
  return {
    clock,
    connections,
    /** @returns Whether it was let in. */
    accept(link = new FakeLink()): boolean {
      coming.push(link);
      const downstream = new Socket();
      connections.accept(downstream);
      if (opened.has(downstream)) return !downstream.destroyed;
      coming.pop();
      if (!downstream.destroyed) throw new Error('a connection that was not let in is still open');
      return false;
    },
    /** Lines since the last call that have this text. */
    said: (text: string) => lines.splice(0).filter(({ msg }) => msg === text),
    evictions: () => count('holdfast_evicted_connections_total'),
    refusals: () => count('holdfast_refused_connections_total'),
  };
}

/** Fills Holdfast with these, lets another one come, and says which of them has to go; -1 is the one that comes. */
function whoGoes(links: readonly FakeLink[], elapsedMs = 2 * latelyMs): readonly number[] {
  const { clock, accept } = setUp(links.length);
  clock.skip(elapsedMs);
  for (const link of links) accept(link);
  const isIn = accept();
  const told = links.flatMap((link, index) => (link.isTold ? [index] : []));
  return isIn ? told : [-1, ...told];
}

/** Answered a moment ago and busy, which is what it takes not to be asked to go. */
function atWork(clock: ManualClock): FakeLink {
  return new FakeLink({ lastAnswerMs: clock.now(), calls: [work] });
}

t.test('those that are open are counted, and those that were not let in are not', async (t) => {
  const { connections, accept, clock } = setUp(2);
  const first = atWork(clock);
  t.equal(connections.open, 0);
  accept(first);
  accept(atWork(clock));
  t.notOk(accept());
  t.equal(connections.open, 2);
  first.close();
  await settle();
  t.equal(connections.open, 1);
});

t.test('each connection has a number in the log, which says how many there are when it opens and closes', async (t) => {
  const { clock, accept, said } = setUp(3);
  const [first, second] = [new FakeLink(), new FakeLink()];
  accept(first);
  t.strictSame(said('connection opened'), [{ level: 20, connection: 1, connections: 1, msg: 'connection opened' }]);
  await clock.advance(1_000.4);
  accept(second);
  t.strictSame(said('connection opened'), [{ level: 20, connection: 2, connections: 2, msg: 'connection opened' }]);
  await clock.advance(1_234.3);
  first.close();
  await settle();
  t.strictSame(said('connection closed'), [
    { level: 20, connection: 1, ageMs: 2_235, connections: 1, msg: 'connection closed' },
  ]);
  second.close();
  await settle();
  t.match(said('connection closed'), [{ connection: 2, ageMs: 1_234, connections: 0 }]);
});

t.test('who stays is told of at info when it has come and gone, who only looks in is not', async (t) => {
  const { clock, accept, said } = setUp(3);
  const [kubelet, check] = [new FakeLink(), new FakeLink()];
  accept(kubelet);
  accept(check);
  await clock.advance(100);
  check.close();
  await settle();
  t.strictSame(said('client disconnected'), []);
  await clock.advance(4_899);
  t.strictSame(said('client connected'), []);
  await clock.advance(1);
  t.strictSame(said('client connected'), [{ level: 30, connection: 1, connections: 1, msg: 'client connected' }]);
  kubelet.close();
  await settle();
  t.strictSame(said('client disconnected'), [
    { level: 30, connection: 1, ageMs: 5_000, connections: 0, msg: 'client disconnected' },
  ]);
  t.equal(clock.pending, 0);
});

t.test('a client that leaks connections does not fill the log', async (t) => {
  const { clock, accept, said } = setUp(30);
  const links = Array.from({ length: 30 }, () => new FakeLink());
  for (const link of links) accept(link);
  await clock.advance(5_000);
  t.equal(said('client connected').length, 10);
  for (const link of links) link.close();
  await settle();
  t.equal(said('client disconnected').length, 10);
});

t.test('as many as are allowed are let in, and who has gone makes room', async (t) => {
  const { clock, accept, said } = setUp(2);
  const links = [atWork(clock), atWork(clock)];
  t.strictSame(links.map(accept), [true, true]);
  t.equal(accept(), false);
  t.strictSame(said('connection opened').length, 2, 'who is not let in is not opened');
  links[0]?.close();
  await settle();
  t.equal(accept(atWork(clock)), true);
  t.equal(accept(), false);
  t.strictSame(
    said('connection opened').map(({ connection }) => connection),
    [3],
    'nor has a number',
  );
});

t.test(
  'who stalls goes first, then who holds what may never end, then who has no call, then who has one',
  async (t) => {
    const stalled = () => new FakeLink({ isStalled: true, calls: [work] });
    const subscribed = () => new FakeLink({ calls: [subscription] });
    const half = () => new FakeLink({ half: true });
    const idle = () => new FakeLink();
    const calls = () => new FakeLink({ calls: [subscription, work] });
    const order = [stalled, subscribed, idle, calls];
    for (const [at, one] of order.entries()) {
      for (const other of order.slice(at + 1)) {
        t.strictSame(whoGoes([one(), other()]), [0]);
        t.strictSame(whoGoes([other(), one()]), [1]);
      }
    }
    t.strictSame(whoGoes([idle(), half()]), [1]);
    t.strictSame(whoGoes([stalled(), half()]), [0]);
  },
);

t.test(
  'among equals goes who was answered least lately, then who asked for nothing for longest, then who came first',
  async (t) => {
    const link = (lastAnswerMs: number | undefined, lastUse = 0) => new FakeLink({ lastAnswerMs, lastUse });
    t.strictSame(whoGoes([link(200), link(100)]), [1]);
    t.strictSame(whoGoes([link(100), link(200)]), [0]);
    t.strictSame(whoGoes([link(100), link(undefined)]), [1], 'never is longest ago');
    t.strictSame(whoGoes([link(undefined), link(100)]), [0]);
    t.strictSame(whoGoes([link(100, 1), link(200, 0)]), [0], 'the answer counts before the use');
    t.strictSame(whoGoes([link(100, 2), link(100, 1), link(100, 3)]), [1]);
    t.strictSame(whoGoes([link(undefined, 2), link(undefined, 1)]), [1]);
    t.strictSame(whoGoes([link(100, 1), link(100, 1)]), [0]);
  },
);

t.test('who has had an answer within a minute stays', async (t) => {
  const nowMs = 1_000 + 2 * latelyMs;
  const recent = (agoMs: number, calls: string[] = [work]) => new FakeLink({ lastAnswerMs: nowMs - agoMs, calls });
  t.strictSame(whoGoes([recent(latelyMs - 1), new FakeLink({ calls: [work] })]), [1]);
  t.strictSame(whoGoes([new FakeLink({ calls: [work] }), recent(latelyMs - 1)]), [0]);
  t.strictSame(whoGoes([recent(latelyMs - 1)]), [-1]);
  t.strictSame(whoGoes([recent(latelyMs)]), [0]);
  t.strictSame(whoGoes([recent(latelyMs - 1, []), new FakeLink({ calls: [work] })]), [1], 'even where it is idle');
  const stalled = new FakeLink({ lastAnswerMs: nowMs - 1, isStalled: true });
  t.strictSame(whoGoes([stalled, recent(0)]), [-1], 'even where it stalls');
});

t.test(
  'where all have had an answer within a minute goes who waits for nothing, for ten seconds and for longest',
  async (t) => {
    const nowMs = 1_000 + 2 * latelyMs;
    const recent = (agoMs: number, more: Partial<FakeLink> = {}) =>
      new FakeLink({ lastAnswerMs: nowMs - agoMs, ...more });
    t.strictSame(whoGoes([recent(idleMs - 1)]), [-1], 'he may be between two calls');
    t.strictSame(whoGoes([recent(idleMs)]), [0]);
    t.strictSame(whoGoes([recent(idleMs), recent(idleMs + 1)]), [1]);
    t.strictSame(whoGoes([recent(idleMs + 1), recent(idleMs)]), [0]);
    t.strictSame(whoGoes([recent(idleMs), recent(idleMs)]), [0], 'of two for just as long the first');
    t.strictSame(whoGoes([recent(idleMs + 1, { calls: [work] }), recent(idleMs)]), [1]);
    t.strictSame(whoGoes([recent(idleMs + 1, { calls: [subscription] }), recent(idleMs)]), [1]);
    t.strictSame(whoGoes([recent(idleMs + 1, { half: true })]), [-1]);
  },
);

t.test('who was told to go counts no more, and is not told again', async (t) => {
  const { accept, evictions } = setUp(2);
  const links = Array.from({ length: 5 }, (_, lastUse) => new FakeLink({ lastUse, isSlow: true }));
  t.strictSame(links.map(accept), [true, true, true, true, true]);
  t.strictSame(
    links.map(({ isTold }) => isTold),
    [true, true, true, false, false],
  );
  t.equal(await evictions(), 3);
  links[0]?.close();
  await settle();
  accept(new FakeLink({ lastUse: 9 }));
  t.strictSame(
    links.map(({ isTold }) => isTold),
    [true, true, true, true, false],
    'nor does it leave room twice',
  );
});

t.test('nobody goes for one who comes where only who was told to go is in the way', async (t) => {
  const { accept, evictions } = setUp(2);
  const [told, staying, gone] = [
    new FakeLink({ isSlow: true }),
    new FakeLink({ lastUse: 2 }),
    new FakeLink({ lastUse: 1 }),
  ];
  for (const link of [told, staying, gone]) accept(link);
  gone.close();
  await settle();
  t.equal(accept(), true);
  t.strictSame([told.isTold, staying.isTold], [true, false]);
  t.equal(await evictions(), 1);
});

t.test('who was told to go is closed at once, whatever he waits for', async (t) => {
  const { clock, accept } = setUp(1);
  const links = [new FakeLink(), new FakeLink({ calls: [subscription] }), new FakeLink({ calls: [work] })];
  for (const link of links) accept(link);
  accept();
  await settle();
  t.strictSame(
    links.map(({ isClosed }) => isClosed),
    [true, true, true],
  );
  t.equal(clock.pending, 1, 'only that of the one who has come');
});

t.test('who does not read that he was told to go is closed a second later', async (t) => {
  const { clock, accept } = setUp(1);
  const deaf = new FakeLink({ isDeaf: true });
  accept(deaf);
  accept();
  await clock.advance(graceMs - 1);
  t.equal(deaf.isClosed, false);
  await clock.advance(1);
  t.equal(deaf.isClosed, true);
});

t.test('ten may be on their way out, or a tenth of those allowed: of more the first is closed at once', async (t) => {
  for (const [max, leaving] of [
    [1, 10],
    [100, 10],
    [200, 20],
  ] as const) {
    const { accept } = setUp(max);
    const links = Array.from({ length: max + leaving }, (_, lastUse) => new FakeLink({ lastUse, isDeaf: true }));
    for (const link of links) accept(link);
    await settle();
    const closed = () => links.flatMap(({ isClosed }, index) => (isClosed ? [index] : []));
    t.strictSame(closed(), [], `${leaving} of ${max}`);
    accept(new FakeLink({ lastUse: 1_000 }));
    t.strictSame(closed(), [0], `${leaving} of ${max}`);
    accept(new FakeLink({ lastUse: 1_000 }));
    t.strictSame(closed(), [0, 1], `${leaving} of ${max}`);
  }
});

t.test('evictions and refusals are counted, and each is logged once a second, with how many there were', async (t) => {
  const { clock, accept, said, evictions, refusals } = setUp(2);
  accept(new FakeLink({ isSlow: true }));
  for (let n = 0; n < 3; n++) accept(new FakeLink({ lastUse: 1, isSlow: true }));
  const evicted = { level: 40, msg: 'connection evicted' };
  t.strictSame(said(evicted.msg), [{ ...evicted, connection: 1, connections: 2, times: 1 }]);
  await clock.advance(999);
  accept(new FakeLink({ lastUse: 1, isSlow: true }));
  t.strictSame(said(evicted.msg), []);
  await clock.advance(1);
  accept(atWork(clock));
  accept(atWork(clock));
  t.match(said(evicted.msg), [{ connection: 4, times: 3 }]);
  t.strictSame([await evictions(), await refusals()], [5, 0]);

  const refused = { level: 40, msg: 'connection refused: all others are at work' };
  t.strictSame([accept(), accept()], [false, false]);
  t.strictSame(said(refused.msg), [{ ...refused, connections: 7, times: 1 }]);
  await clock.advance(1_000);
  accept();
  t.match(said(refused.msg), [{ times: 2 }]);
  t.strictSame([await evictions(), await refusals()], [5, 3]);
});

t.test('a shutdown tells all, waits for the calls, subscriptions aside, and closes all', async (t) => {
  const { clock, connections, accept } = setUp(3);
  const busy = new FakeLink({ calls: [subscription, work] });
  const links = [busy, new FakeLink({ calls: [subscription] }), new FakeLink()];
  for (const link of links) accept(link);
  const drained = connections.drain(5_000);
  await settle();
  t.strictSame(
    links.map(({ isTold, isClosed }) => [isTold, isClosed]),
    [
      [true, false],
      [true, false],
      [true, false],
    ],
  );
  busy.end([work]);
  await soon(drained);
  t.strictSame(
    links.map(({ isClosed }) => isClosed),
    [true, true, true],
  );
  t.equal(clock.pending, 0);
});

t.test('a shutdown waits for calls no longer than it may, and for what closes until it is closed', async (t) => {
  const { clock, connections, accept } = setUp(3);
  const busy = new FakeLink({ calls: [work] });
  const slow = new FakeLink({ isSlow: true });
  accept(busy);
  accept(slow);
  let isOver = false;
  const drained = connections.drain(5_000).then(() => {
    isOver = true;
  });
  await clock.advance(4_999);
  t.equal(busy.isClosed, false);
  await clock.advance(1);
  t.strictSame([busy.isClosed, isOver], [true, false]);
  slow.close();
  await soon(drained);
});

t.test('a shutdown without connections is over at once', async (t) => {
  const { clock, connections } = setUp(3);
  await soon(connections.drain(5_000));
  t.equal(clock.pending, 0);
});

/** Until the end of the test the system says these limits; undefined: it has no such file. */
function sayLimits(t: Test, limits: string | undefined): void {
  const { readFileSync } = fs;
  const say = (...args: Parameters<typeof readFileSync>) => {
    if (args[0] !== '/proc/self/limits') return readFileSync(...args);
    if (limits === undefined) throw new Error('ENOENT');
    return Buffer.from(limits);
  };
  Object.assign(fs, { readFileSync: say });
  syncBuiltinESMExports();
  t.teardown(() => {
    Object.assign(fs, { readFileSync });
    syncBuiltinESMExports();
  });
}

const limitsOf = (
  openFiles: number | string,
) => `Limit                     Soft Limit           Hard Limit           Units
Max processes             47863                47863                processes
Max open files            ${String(openFiles).padEnd(20)} 524288               files
Max locked memory         8388608              8388608              bytes
`;

/** How many are let in. */
function countLetIn({ clock, accept }: ReturnType<typeof setUp>): number {
  let count = 0;
  while (count < 2_000 && accept(atWork(clock))) count++;
  return count;
}

t.test('without a number of its own Holdfast lets in what the limit of open files leaves room for', async (t) => {
  const few = 'the limit of open files allows few connections';
  for (const [openFiles, connections] of [
    [1_023, 419],
    [2_299, 999],
    [50, 10],
    [125, 11],
  ] as const) {
    sayLimits(t, limitsOf(openFiles));
    const holdfast = setUp(undefined);
    t.strictSame(holdfast.said(few), [{ level: 40, connections, msg: few }], `${openFiles}`);
    t.equal(countLetIn(holdfast), connections, `${openFiles}`);
  }
});

t.test('it is a thousand at most, and where the system says no limit', async (t) => {
  for (const limits of [limitsOf(2_302), limitsOf(524_288), limitsOf('unlimited'), 'nothing of the kind', undefined]) {
    sayLimits(t, limits);
    const holdfast = setUp(undefined);
    t.strictSame(holdfast.said('the limit of open files allows few connections'), [], 'nothing to warn of');
    t.equal(countLetIn(holdfast), 1_000);
  }
});

t.test('a number that was asked for is taken as it is, whatever the limit of open files', async (t) => {
  sayLimits(t, limitsOf(50));
  const holdfast = setUp(12);
  t.strictSame(holdfast.said('the limit of open files allows few connections'), []);
  t.equal(countLetIn(holdfast), 12);
});

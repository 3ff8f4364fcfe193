/** Walks the table "The life of a creation" of ARCHITECTURE.md, cell by cell, for pod sandboxes and for containers. */
import t, { type Test } from 'tap';
import type { Creation, CreationRequest } from '../../src/cache/creation.js';
import type { Grant } from '../../src/cache/creation-handover.js';
import { atEvent, atRequest, type CreationState, type RequestRelation } from '../../src/cache/creation-life.js';
import { NameReservedError } from '../../src/cache/creation-runtime.js';
import { WaiterLeftError } from '../../src/cache/detached-call.js';
import { ContainerState } from '../../src/cri/enums.js';
import { settle } from '../support/manual-clock.js';
import { container, item, never, podSandbox, type StoreRig, setUp } from './store-rig.js';

type Kind = 'podSandbox' | 'container';

/** One creation in one state. */
interface Scene extends StoreRig {
  readonly kind: Kind;
  readonly creation: Creation<string, string>;
  readonly ask: (fields?: Asked) => Promise<Grant<string, string>>;
  /** Its waiter, where there is one. */
  readonly leave: () => void;
  readonly grant: Grant<string, string> | undefined;
  /** Lets what is doomed be removed. */
  readonly unblock: () => void;
}

interface Asked {
  readonly attempt?: number;
  readonly other?: boolean;
}

const id = 'made';

function request(kind: Kind, { attempt = 1, other = false }: Asked = {}): CreationRequest<string> {
  // Of pod sandboxes only the drift of --on-drift recreate makes another spec; a container has the hash of its spec.
  if (kind === 'podSandbox') return podSandbox(attempt, other ? 'other' : 'h');
  return container({ attempt, hash: other ? '2' : '1' });
}

async function scene(kind: Kind, state: CreationState): Promise<Scene> {
  const rig = setUp({ limit: state === 'queued' ? 1 : 100, onDrift: kind === 'podSandbox' ? 'recreate' : 'keep' });
  const { runtime, store } = rig;
  const ask = (fields?: Asked) => {
    const asked = store.request(request(kind, fields), never);
    asked.catch(() => {});
    return asked;
  };
  if (state === 'queued') {
    store.request(container({ name: 'blocker', podSandboxId: 'elsewhere' }), never).catch(() => {});
    await settle();
  }
  const abort = new AbortController();
  const leave = () => abort.abort();
  const asked = store.request(request(kind), abort.signal);
  asked.catch(() => {});
  await settle();
  const creation = rig.creations().at(-1);
  if (creation === undefined) throw new Error('nothing was begun');
  let grant: Grant<string, string> | undefined;
  let unblock = () => {};
  if (state === 'held' || state === 'shown' || state === 'doomed') leave();
  if (state !== 'queued' && state !== 'running') {
    runtime.call(-1).end(id);
    await settle();
  }
  if (state === 'answered' || state === 'delivered') grant = await asked;
  if (state === 'delivered') grant?.settle(true);
  if (state === 'doomed') {
    runtime.checkGate = new Promise((resolve) => {
      unblock = () => {
        runtime.checkGate = Promise.resolve();
        resolve();
      };
    });
    void ask({ other: true });
    await settle();
  }
  if (creation.state !== state) throw new Error(`${kind} is ${creation.state}, not ${state}`);
  return { ...rig, kind, creation, ask, leave, grant, unblock };
}

const held = (kind: Kind): CreationState => (kind === 'container' ? 'held' : 'shown');
const statesOf = (kind: Kind): readonly CreationState[] => [
  'queued',
  'running',
  'answered',
  held(kind),
  'delivered',
  'doomed',
];

/** What a request gets, and what becomes of the creation that it finds. */
type RequestCell = 'joins' | 'is checked' | 'dooms it, new' | 'it is gone, new' | 'new';
type RequestRow = readonly [
  queued: RequestCell,
  running: RequestCell,
  answered: RequestCell,
  held: RequestCell,
  delivered: RequestCell,
  doomed: RequestCell,
];

const requests: ReadonlyArray<readonly [string, readonly Kind[], Asked, RequestRow]> = [
  [
    'the same request',
    ['podSandbox', 'container'],
    {},
    ['joins', 'joins', 'is checked', 'is checked', 'is checked', 'new'],
  ],
  [
    'another spec',
    ['podSandbox', 'container'],
    { other: true },
    ['joins', 'dooms it, new', 'dooms it, new', 'dooms it, new', 'it is gone, new', 'new'],
  ],
  ['a higher attempt', ['container'], { attempt: 2 }, ['joins', 'joins', 'is checked', 'is checked', 'new', 'new']],
  ['a lower attempt', ['container'], { attempt: 0 }, ['joins', 'joins', 'is checked', 'is checked', 'new', 'new']],
  [
    'a higher attempt',
    ['podSandbox'],
    { attempt: 2 },
    ['joins', 'dooms it, new', 'dooms it, new', 'dooms it, new', 'new', 'new'],
  ],
  ['a lower attempt', ['podSandbox'], { attempt: 0 }, ['joins', 'joins', 'is checked', 'is checked', 'new', 'new']],
];

for (const [what, kinds, fields, row] of requests) {
  for (const kind of kinds) {
    statesOf(kind).forEach((state, column) => {
      const cell = row[column];
      t.test(`${what} of a ${kind} that is ${state}: ${cell}`, async (t) => {
        const all = await scene(kind, state);
        // What the doomed one's successor asked for is in the way of nothing here: it is the same creation.
        const asked = all.ask(fields);
        await settle();
        if (cell === 'joins') await joins(t, all, asked, fields, state);
        else if (cell === 'is checked') await isChecked(t, all, asked, state);
        else await isNew(t, all, asked, state, cell === 'dooms it, new' || state === 'doomed');
        if (cell === 'it is gone, new') t.equal(all.creation.state, 'gone');
        if (cell === 'new' && state === 'delivered') t.equal(all.creation.state, 'delivered');
      });
    });
  }
}

async function joins(t: Test, all: Scene, asked: Promise<Grant<string, string>>, fields: Asked, state: CreationState) {
  const { runtime, creation, kind } = all;
  t.equal(creation.state, state);
  t.equal(runtime.calls.length, 1, 'no second upstream call');
  if (state === 'queued') {
    runtime.call(0).end('blocker');
    await settle();
    t.ok(runtime.call(1).bytes.equals(request(kind, fields).bytes), 'the newest bytes are sent');
  }
  runtime.call(-1).end(id);
  const { made, role } = await asked;
  t.same([made.id, role], [id, 'joined']);
}

async function isChecked(t: Test, all: Scene, asked: Promise<Grant<string, string>>, state: CreationState) {
  const { runtime, creation } = all;
  const { made, role } = await asked;
  t.same([made.id, role], [id, 'replayed']);
  t.same(runtime.checked, [id]);
  t.equal(runtime.calls.length, 1);
  t.equal(creation.state, state === 'delivered' ? 'delivered' : 'answered');
}

async function isNew(t: Test, all: Scene, asked: Promise<Grant<string, string>>, state: CreationState, dooms: boolean) {
  const { runtime, creation, grant, leave } = all;
  if (dooms) {
    t.equal(creation.state === 'gone' ? 'doomed' : creation.state, 'doomed');
    if (state === 'running') {
      t.equal(runtime.calls.length, 1, 'the name is taken until it has ended');
      leave();
      runtime.call(0).end(id);
    }
    if (state === 'answered') {
      t.equal(runtime.calls.length, 1, 'the answer may still arrive');
      grant?.settle(false);
    }
    if (state === 'doomed') t.equal(runtime.calls.length, 1, 'it waits for the removal');
    all.unblock();
    await settle();
    t.same(runtime.removed, [id]);
    t.equal(creation.state, 'gone');
  } else {
    t.same(runtime.removed, []);
  }
  t.equal(runtime.calls.length, 2);
  runtime.call(1).end('another');
  t.equal((await asked).made.id, 'another');
}

/** What becomes of a creation at each event; '' where the event cannot be, '=' where nothing changes. */
type EventCell = CreationState | '' | '=';
type EventRow = readonly [
  queued: EventCell,
  running: EventCell,
  answered: EventCell,
  held: EventCell,
  delivered: EventCell,
  doomed: EventCell,
];

interface Event {
  readonly name: string;
  readonly kinds: readonly Kind[];
  readonly row: EventRow;
  readonly happens: (all: Scene) => Promise<unknown> | undefined;
  /** Whether what was hidden is seen, where it becomes gone. */
  readonly visible?: boolean;
}

const both = ['podSandbox', 'container'] as const;
/** Asks again, and lets what takes its place run, so that what is doomed is removed. */
const found = (condition: 'unusable' | 'in use' | 'absent') => (all: Scene) => {
  all.runtime.conditions.set(id, condition);
  // Removals do not go on, so that what is doomed stays so.
  all.runtime.removalErrors = Array.from({ length: 9 }, () => new Error('busy'));
  if (all.creation.state === 'doomed') all.unblock();
  else void all.ask();
  return settle();
};

const events: readonly Event[] = [
  {
    name: 'a check finds it unusable',
    kinds: both,
    row: ['', '', 'doomed', 'doomed', 'gone', '='],
    happens: (all) => {
      void found('unusable')(all);
      return settle().then(() => all.grant?.settle(false));
    },
  },
  {
    name: 'a check finds it in use',
    kinds: both,
    row: ['', '', 'gone', 'gone', 'gone', 'gone'],
    happens: found('in use'),
    visible: true,
  },
  {
    name: 'a check finds it absent',
    kinds: both,
    row: ['', '', 'gone', 'gone', 'gone', 'gone'],
    happens: found('absent'),
  },
  {
    name: 'a few checks in a row cannot tell',
    kinds: both,
    row: ['', '', 'gone', 'gone', '=', ''],
    async happens(all) {
      all.runtime.checkErrors = Array.from({ length: 3 }, () => new Error('unknown'));
      for (let n = 0; n < 3; n += 1) await all.ask().catch(() => {});
    },
    visible: true,
  },
  {
    name: 'the runtime answers and somebody waits',
    kinds: both,
    row: ['', 'answered', '', '', '', ''],
    happens: (all) => {
      all.runtime.call(-1).end(id);
      return settle();
    },
  },
  {
    name: 'the runtime fails',
    kinds: both,
    row: ['', 'gone', '', '', '', ''],
    happens: (all) => {
      all.leave();
      all.runtime.call(-1).fail(new Error('disk full'));
      return settle();
    },
  },
  {
    name: 'the runtime says that the name is taken',
    kinds: both,
    row: ['', 'queued', '', '', '', ''],
    happens: (all) => {
      all.runtime.call(-1).fail(new NameReservedError(new Error('name is reserved'), 'x'));
      return settle();
    },
  },
  {
    name: 'delivery is proven',
    kinds: both,
    row: ['', '', 'delivered', '', '=', ''],
    happens: (all) => {
      all.grant?.settle(true);
      return undefined;
    },
    visible: true,
  },
  {
    name: 'its id is used',
    kinds: both,
    row: ['=', '=', 'gone', 'gone', 'gone', 'gone'],
    happens: ({ store, kind }) => {
      store.used(kind, id);
      return undefined;
    },
    visible: true,
  },
  {
    name: 'it is stopped or removed',
    kinds: both,
    row: ['=', '=', 'gone', 'gone', 'gone', 'gone'],
    happens: ({ store, kind }) => {
      store.ended(kind, id);
      return undefined;
    },
    visible: true,
  },
  {
    name: 'its pod sandbox ends',
    kinds: ['container'],
    row: ['gone', 'doomed', 'doomed', 'doomed', 'gone', '='],
    happens: ({ store, runtime }) => {
      runtime.checkGate = new Promise(() => {});
      store.ended('podSandbox', 's');
      return undefined;
    },
  },
  {
    name: 'a list shows it RUNNING',
    kinds: ['container'],
    row: ['=', '=', '=', 'gone', '=', 'gone'],
    happens: ({ store }) => {
      store.hiddenView()(item(id, { attempt: 1, state: ContainerState.running }));
      return undefined;
    },
    visible: true,
  },
  {
    name: 'hold-ttl is over',
    kinds: ['container'],
    row: ['=', '', '', 'doomed', '', ''],
    happens: ({ clock, runtime }) => {
      runtime.checkGate = new Promise(() => {});
      return clock.advance(10_000);
    },
  },
  {
    name: 'its removal fails for good',
    kinds: both,
    row: ['', '', '', '', '', 'gone'],
    happens: ({ clock, runtime, unblock }) => {
      runtime.removalErrors = Array.from({ length: 5 }, () => new Error('busy'));
      unblock();
      return clock.advance(15_000);
    },
    visible: true,
  },
];

for (const { name, kinds, row, happens, visible = false } of events) {
  for (const kind of kinds) {
    statesOf(kind).forEach((state, column) => {
      const cell = row[column];
      if (cell === undefined || cell === '') return;
      const expected = cell === '=' ? state : cell;
      t.test(`${name}, ${kind} ${state}: ${cell === '=' ? 'stays' : expected}`, async (t) => {
        const all = await scene(kind, state);
        const { creation, store } = all;
        const wasHidden = store.hiding;
        await happens(all);
        t.equal(creation.state, expected);
        if (expected !== 'gone' && expected !== 'delivered') return;
        t.equal(store.hiddenOwner(item(id, { attempt: 1 })), undefined, 'it is hidden no more');
        if (wasHidden) t.same(all.seen, [`${visible ? 'revealed' : 'vanished'} ${id}`]);
      });
    });
  }
}

for (const kind of both) {
  t.test(`the last waiter of a queued ${kind} leaves: it keeps its place`, async (t) => {
    const { leave, runtime, creation, store } = await scene(kind, 'queued');
    leave();
    t.equal(creation.state, 'queued');
    t.equal(store.hiding, kind === 'container');
    runtime.call(0).end('blocker');
    await settle();
    t.equal(creation.state, 'running');
    t.equal(store.hiding, kind === 'container', 'also while it runs');
  });

  t.test(`the last waiter of a running ${kind} leaves, and the runtime answers: ${held(kind)}`, async (t) => {
    const { leave, runtime, creation, store } = await scene(kind, 'running');
    leave();
    t.equal(creation.state, 'running');
    t.equal(store.hiding, kind === 'container');
    runtime.call(0).end(id);
    await settle();
    t.equal(creation.state, held(kind));
  });

  t.test(`an answer with a ${kind} that is not known to have arrived: ${held(kind)}`, async (t) => {
    const { grant, creation, store } = await scene(kind, 'answered');
    grant?.settle(false);
    t.equal(creation.state, held(kind));
    t.equal(store.hiding, kind === 'container');
  });

  t.test(`a doomed ${kind} that the runtime answers for is removed, one that fails is gone`, async (t) => {
    for (const fails of [false, true]) {
      const { leave, ask, runtime, creation } = await scene(kind, 'running');
      leave();
      void ask({ other: true });
      await settle();
      t.equal(creation.state, 'doomed');
      if (fails) runtime.call(0).fail(new Error('disk full'));
      else runtime.call(0).end(id);
      await settle();
      t.equal(creation.state, 'gone');
      t.same(runtime.removed, fails ? [] : [id]);
      t.equal(runtime.calls.length, 2, 'and what takes its place is made');
    }
  });

  t.test(`an answer with a doomed ${kind} that did arrive: it is somebody's, and stays`, async (t) => {
    const { ask, grant, runtime, creation, store } = await scene(kind, 'answered');
    void ask({ other: true });
    await settle();
    t.equal(creation.state, 'doomed');
    grant?.settle(true);
    await settle();
    t.equal(creation.state, 'gone');
    t.same(runtime.removed, []);
    t.equal(store.hiding, false);
  });

  t.test(`replay-ttl of a ${kind} that was delivered, or a pod sandbox that is shown, is over: gone`, async (t) => {
    for (const state of kind === 'podSandbox' ? (['delivered', 'shown'] as const) : (['delivered'] as const)) {
      const { clock, ask, creation, runtime } = await scene(kind, state);
      await clock.advance(30_001);
      void ask();
      await settle();
      t.equal(creation.state, 'gone');
      t.same(runtime.removed, []);
      t.equal(runtime.calls.length, 2);
    }
  });
}

t.test('a queued creation is dropped at its turn once hold-ttl is over', async (t) => {
  const { leave, clock, runtime, creation, steps } = await scene('container', 'queued');
  leave();
  await clock.advance(10_001);
  runtime.call(0).end('blocker');
  await settle();
  t.equal(creation.state, 'gone');
  t.ok(steps.includes('dropped'));
  t.equal(runtime.calls.length, 1);
});

t.test(
  'a check that finds absent what has been doomed meanwhile ends it, and what takes its place is made',
  async (t) => {
    for (const kind of both) {
      const { ask, creation, runtime } = await scene(kind, held(kind));
      let look = () => {};
      runtime.checkGate = new Promise((resolve) => {
        look = resolve;
      });
      void ask();
      await settle();
      void ask({ other: true });
      t.equal(creation.state, 'doomed');
      runtime.conditions.set(id, 'absent');
      look();
      await settle();
      t.equal(creation.state, 'gone');
      t.same(runtime.checked, [id], 'no removal has to look again');
      t.equal(runtime.calls.length, 2);
    }
  },
);

t.test('who waits for a queued container whose pod sandbox ends is told so', async (t) => {
  const { ask, store } = await scene('container', 'queued');
  const asked = ask();
  store.ended('podSandbox', 's');
  await t.rejects(asked, { message: /pod sandbox s was stopped or removed/ });
});

t.test('a caller that leaves during a check is told what it waited for', async (t) => {
  const { store, runtime, clock } = await scene('container', 'held');
  runtime.checkGate = new Promise(() => {});
  const leave = new AbortController();
  const asked = store.request(container({ attempt: 1 }), leave.signal);
  await clock.advance(1_000);
  leave.abort();
  const error = await asked.then(
    () => undefined,
    (error: unknown) => error,
  );
  t.ok(error instanceof WaiterLeftError && error.progress?.at === 'checked');
});

/** What no walk can reach: a request finds nothing that is doomed or gone, and a kind is only held or only shown. */
const relations: readonly RequestRelation[] = [
  'same request',
  'other spec hash or pod sandbox',
  'another attempt of a container',
  'higher attempt of a pod sandbox',
  'lower attempt of a pod sandbox',
];

for (const relation of relations) {
  t.test(`what is doomed or gone is left as it is and given to no request: ${relation}`, (t) => {
    t.same(atRequest(relation, 'doomed'), { outcome: 'new' });
    t.same(atRequest(relation, 'gone'), { outcome: 'new' });
    t.end();
  });

  t.test(`what is shown is to a request what is held is: ${relation}`, (t) => {
    t.same(atRequest(relation, 'shown'), atRequest(relation, 'held'));
    t.end();
  });
}

t.test('what is made is looked at before a request gets it', (t) => {
  t.same(atRequest('same request', 'held'), { outcome: 'check' });
  t.same(atRequest('same request', 'running'), { outcome: 'join' });
  t.end();
});

t.test('what nobody waits for becomes held where it is a container, shown where it is a pod sandbox', (t) => {
  t.equal(atEvent('not delivered', 'answered', 'container'), 'held');
  t.equal(atEvent('not delivered', 'answered', 'podSandbox'), 'shown');
  t.equal(atEvent('begun', 'queued', 'podSandbox'), 'running');
  t.end();
});

/** How creations wait for their turn, and what becomes of the wait when a newer request takes over. */
import t from 'tap';
import { NameReservedError } from '../../src/cache/creation-runtime.js';
import type { ContainerFingerprint } from '../../src/cache/fingerprint.js';
import { settle } from '../support/manual-clock.js';
import { askAndLeave, container, held, item, never, podSandbox, type StoreRig, setUp } from './store-rig.js';

function ask({ store }: StoreRig, request = container()) {
  const asked = store.request(request, never);
  asked.catch(() => {});
  return asked;
}

/** With its only place taken, until `free` is called. */
async function busy(options: Parameters<typeof setUp>[0] = {}) {
  const rig = setUp({ limit: 1, ...options });
  ask(rig, container({ name: 'blocker', podSandboxId: 'elsewhere' }));
  await settle();
  const free = () => {
    rig.runtime.call(0).end('blocker');
    return settle();
  };
  return { ...rig, free };
}

/** What was sent upstream, in order: containers by name. */
const sent = ({ runtime }: StoreRig) =>
  runtime.calls.map(({ fingerprint: { identity } }) => (identity.kind === 'container' ? identity.container : 'pod'));

const reserved = () => new NameReservedError(new Error('reserved'), 'x');

t.test('a container goes before a pod sandbox that came first', async (t) => {
  const rig = await busy();
  ask(rig, podSandbox());
  ask(rig);
  await settle();
  await rig.free();
  t.same(sent(rig), ['blocker', 'c']);
});

t.test('what somebody waits for goes before what nobody does', async (t) => {
  const rig = await busy();
  await askAndLeave(rig, container({ name: 'left' }));
  ask(rig, container({ name: 'waited for' }));
  await settle();
  await rig.free();
  t.same(sent(rig), ['blocker', 'waited for']);
});

t.test('pod sandboxes of a runtime handler at its limit wait, those of others do not', async (t) => {
  const rig = setUp({ admission: { handlerLimits: new Map([['kata', 1]]) } });
  for (const uid of ['1', '2']) ask(rig, podSandbox(0, 'h', uid, { handler: 'kata' }));
  ask(rig, podSandbox(0, 'h', '3'));
  ask(rig);
  await settle();
  t.same(
    rig.runtime.calls.map(({ fingerprint }) => fingerprint.identity.uid),
    ['u', '1', '3'],
  );
  rig.runtime.call(1).end('s1');
  await settle();
  t.equal(rig.runtime.calls.length, 4);
});

t.test('the deadline and importance of who asked last count', async (t) => {
  const admitted: unknown[] = [];
  const rig = await busy({
    admission: { admitted: ({ importance, deadlineMs }) => admitted.push([importance, deadlineMs]) },
  });
  ask(rig, { ...container(), urgency: { importance: 'critical', deadlineMs: 5 } });
  await settle();
  ask(rig, { ...container(), urgency: { importance: 'critical', deadlineMs: 7 } });
  await settle();
  await rig.free();
  t.same(admitted, [
    [undefined, undefined],
    ['critical', 7],
  ]);
});

t.test('a start that gets in the way while a creation is queued is waited for, out of the queue', async (t) => {
  const rig = await busy();
  const asked = ask(rig, container({ attempt: 1 }));
  await settle();
  let pass = () => {};
  rig.guard.start = { containerId: 'c0', attempt: 0, sinceMs: 0 };
  rig.guard.passes = new Promise((resolve) => {
    pass = resolve;
  });
  ask(rig, podSandbox());
  await settle();
  await rig.free();
  t.same(sent(rig), ['blocker', 'pod']);
  pass();
  await settle();
  rig.runtime.call(1).end('s1');
  await settle();
  t.same(sent(rig), ['blocker', 'pod', 'c']);
  rig.runtime.call(2).end('c1');
  t.equal((await asked).made.id, 'c1');
});

t.test('the same request again leaves a pause for a name as it is, another one ends it', async (t) => {
  for (const [image, callsAfter] of [
    ['i', [1, 2]],
    ['other', [2, 2]],
  ] as const) {
    const rig = setUp();
    ask(rig);
    await settle();
    rig.runtime.call(0).fail(reserved());
    await settle();
    await rig.clock.advance(200);
    ask(rig, container({ image }));
    await settle();
    const calls = [rig.runtime.calls.length];
    await rig.clock.advance(50);
    calls.push(rig.runtime.calls.length);
    t.same(calls, callsAfter, image);
  }
});

t.test('another attempt of the same container ends a pause for a name, which is another one then', async (t) => {
  const rig = setUp();
  ask(rig);
  await settle();
  rig.runtime.call(0).fail(reserved());
  await settle();
  ask(rig, container({ attempt: 1 }));
  await settle();
  t.equal(rig.runtime.calls.length, 2);
  t.same(rig.store.census.views()[0]?.progress, { at: 'running', sinceMs: 1_000 });
});

t.test('another request keeps the place of the one that it takes over from', async (t) => {
  const rig = await busy();
  ask(rig, container({ name: 'first' }));
  ask(rig, container({ name: 'second' }));
  await settle();
  ask(rig, container({ name: 'first', image: 'other', attempt: 1 }));
  await settle();
  await rig.free();
  t.same(sent(rig), ['blocker', 'first']);
});

t.test('one that has less importance does not', async (t) => {
  const rig = await busy();
  ask(rig, { ...container({ name: 'first' }), urgency: { importance: 'critical' } });
  ask(rig, { ...container({ name: 'second' }), urgency: { importance: 'critical' } });
  await settle();
  ask(rig, container({ name: 'first', image: 'other' }));
  await settle();
  await rig.free();
  t.same(sent(rig), ['blocker', 'second']);
});

t.test('one for another runtime handler waits for that one', async (t) => {
  const rig = await busy({ admission: { handlerLimits: new Map([['kata', 0]]) } });
  ask(rig, podSandbox(0, 'h', 'u', { handler: 'kata' }));
  await settle();
  ask(rig, podSandbox(0, 'h', 'u', { handler: 'runc' }));
  await settle();
  await rig.free();
  t.same(sent(rig), ['blocker', 'pod']);
});

t.test('one that a start is in the way of waits for that at once', async (t) => {
  const rig = await busy();
  ask(rig);
  await settle();
  rig.guard.start = { containerId: 'c0', attempt: 0, sinceMs: 900 };
  rig.guard.passes = new Promise(() => {});
  t.match(await askAndLeave(rig, container({ attempt: 1 })), { at: 'waiting', for: { what: 'start' } });
  ask(rig, podSandbox());
  t.match(rig.details.at(-1), { step: 'queued', behind: 0 }, 'it is in the queue no more');
});

t.test('one that has failed too often pauses, also where it takes over from what did not have to', async (t) => {
  const rig = setUp();
  for (let n = 0; n < 3; n += 1) {
    ask(rig);
    await settle();
    rig.runtime.call(-1).fail(new Error('disk full'));
    await settle();
  }
  rig.guard.start = { containerId: 'c0', attempt: 0, sinceMs: 0 };
  let pass = () => {};
  rig.guard.passes = new Promise((resolve) => {
    pass = resolve;
  });
  ask(rig, container({ image: 'other' }));
  await settle();
  ask(rig);
  pass();
  await rig.clock.advance(999);
  t.equal(rig.runtime.calls.length, 3);
  await rig.clock.advance(1);
  t.equal(rig.runtime.calls.length, 4);
});

t.test('one that nothing is in the way of does not wait for what the other had to', async (t) => {
  const rig = setUp();
  rig.guard.inTheWay = ({ identity: { attempt } }: ContainerFingerprint) =>
    attempt > 0 ? { containerId: 'c0', attempt: 0, sinceMs: 0 } : undefined;
  rig.guard.passes = new Promise(() => {});
  ask(rig, container({ attempt: 1 }));
  await settle();
  t.equal(rig.runtime.calls.length, 0);
  ask(rig, container({ attempt: 0 }));
  await settle();
  t.equal(rig.runtime.calls.length, 1);
});

t.test('a container is told by what it was last asked for as', async (t) => {
  const rig = await busy();
  await askAndLeave(rig, container({ podSandboxId: 's1' }));
  await askAndLeave(rig, container({ podSandboxId: 's2', attempt: 1 }));
  t.notOk(rig.store.hiddenOwner(item('x', { podSandboxId: 's1' })));
  t.ok(rig.store.hiddenOwner(item('x', { podSandboxId: 's2', attempt: 1 })), 'and its id is known from then on');
  t.ok(rig.store.hiddenOwner(item('x', { podSandboxId: '?' })));
  await askAndLeave(rig, container({ podSandboxId: 's3', attempt: 2 }));
  t.notOk(rig.store.hiddenOwner(item('x', { podSandboxId: '?' })), 'until it is another one');
  t.equal(rig.store.census.sizes.hidden, 1);
  rig.store.ended('podSandbox', 's2');
  t.equal(rig.store.census.sizes.live, 2, 'the pod sandbox that it is asked for in counts');
  rig.store.ended('podSandbox', 's3');
  t.equal(rig.store.census.sizes.live, 1);
});

t.test('a lower attempt of a pod sandbox joins a higher one that is being made', async (t) => {
  const rig = setUp();
  ask(rig, podSandbox(1));
  await settle();
  const lower = ask(rig, podSandbox(0));
  await settle();
  rig.runtime.call(0).end('s1');
  t.match(await lower, { role: 'joined', made: { id: 's1' } });
  t.equal(rig.runtime.calls.length, 1);
});

t.test('pod sandboxes on the host network are no measure for those that are not', async (t) => {
  for (const onHostNetwork of [true, false]) {
    const rig = setUp({
      creationTimeoutMs: 900_000,
      admission: { hung: { deadlineShare: 1, most: 0, giveUp: { times: 2, leastMs: 30_000 } } },
    });
    ask(rig, podSandbox(0, 'h', '0'));
    await settle();
    rig.runtime.call(0).end('s0');
    await settle();
    ask(rig, podSandbox(0, 'h', '1'));
    await settle();
    ask(rig, podSandbox(0, 'h', '2', { onHostNetwork }));
    await settle();
    rig.runtime.call(2).end('s2');
    await rig.clock.advance(60_000);
    t.equal(rig.runtime.call(1).signal.aborted, !onHostNetwork);
    rig.store.close();
  }
});

t.test('a pod sandbox that was made at last may take as long as ever the next time', async (t) => {
  const rig = setUp({
    creationTimeoutMs: 900_000,
    admission: { hung: { deadlineShare: 1, most: 0, giveUp: { times: 2, leastMs: 30_000 } } },
  });
  const quick = async (uid: string) => {
    ask(rig, podSandbox(0, 'h', uid));
    await settle();
    rig.runtime.call(-1).end(`s-${uid}`);
    await settle();
  };
  const isGivenUp = async (call: number, ms: number) => {
    await quick(`beside ${call}`);
    await rig.clock.advance(ms - 1);
    t.equal(rig.runtime.call(call).signal.aborted, false);
    await rig.clock.advance(1);
    t.equal(rig.runtime.call(call).signal.aborted, true);
  };
  ask(rig, podSandbox());
  await settle();
  await isGivenUp(0, 30_000);
  rig.runtime.call(-1).end('s1');
  await settle();
  rig.store.ended('podSandbox', 's1');
  const next = rig.runtime.calls.length;
  ask(rig, podSandbox(1));
  await settle();
  await isGivenUp(next, 30_000);
  rig.store.close();
});

t.test('what is made of a doomed one and what takes its place both have what they were asked for with', async (t) => {
  const rig = setUp();
  await held(rig);
  await held(rig, { hash: '2' }, 'c2');
  t.same(rig.runtime.removed, ['c1']);
  t.equal((await ask(rig, container({ hash: '2' }))).made.id, 'c2');
});

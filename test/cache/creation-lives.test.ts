/** What goes with each change of a creation's state: what is found, hidden, removed and told, and when. */
import t from 'tap';
import type { Creation, CreationRequest } from '../../src/cache/creation.js';
import { CreationLives, type CreationLivesOptions } from '../../src/cache/creation-lives.js';
import { PodSandboxEndedError } from '../../src/cache/detached-call.js';
import { Reaper } from '../../src/cache/reaper.js';
import { ContainerState } from '../../src/cri/enums.js';
import { ManualClock, settle } from '../support/manual-clock.js';
import { type ContainerFields, container, item, lone, podSandbox, TestRuntime } from './store-rig.js';

type Any = Creation<string, string>;

const holdTtlMs = 10_000;

function setUp(options: Partial<CreationLivesOptions> = {}) {
  const clock = new ManualClock();
  const runtime = new TestRuntime();
  const steps: string[] = [];
  const details: Record<string, unknown>[] = [];
  const seen: string[] = [];
  const lives = new CreationLives<string, string>(
    new Reaper(runtime, clock),
    clock,
    {
      step: (step, creation, detail) => {
        steps.push(step);
        details.push({ step, state: creation.state, ...detail });
      },
      revealed: ({ made }) => seen.push(`revealed ${made?.id}`),
      vanished: ({ made }) => seen.push(`vanished ${made?.id}`),
      faulted(_, error) {
        throw error;
      },
    },
    { holdTtlMs, replayTtlMs: 30_000, maxEntries: 100, ...options },
  );

  const queued = (request: CreationRequest<string> = container()): Any => {
    const creation = lone(request, clock);
    lives.index.add(creation);
    return creation;
  };
  /** @returns It, and what ends its upstream call; that does not change its state. */
  const running = (request?: CreationRequest<string>) => {
    const creation = queued(request);
    let end = (_: string) => {};
    const answer = new Promise<string>((resolve) => {
      end = resolve;
    });
    void creation.call.run(60_000, async () => {
      const made = runtime.answerFor(await answer);
      creation.made = made;
      lives.index.made(creation, made.id);
      return made;
    });
    lives.on(creation, 'begun');
    return {
      creation,
      async end(id = 'c1') {
        end(id);
        await settle();
      },
    };
  };
  const ended = async (request?: CreationRequest<string>, id?: string): Promise<Any> => {
    const { creation, end } = running(request);
    await end(id);
    return creation;
  };
  /** Held, or shown where it is a pod sandbox. */
  const held = async (fields: ContainerFields | CreationRequest<string> = {}, id = 'c1'): Promise<Any> => {
    const creation = await ended('bytes' in fields ? fields : container(fields), id);
    lives.on(creation, 'answered with nobody waiting');
    return creation;
  };
  const answered = async (request?: CreationRequest<string>): Promise<Any> => {
    const creation = await ended(request);
    creation.claim();
    lives.on(creation, 'answered with waiters');
    return creation;
  };
  const delivered = async (request?: CreationRequest<string>): Promise<Any> => {
    const creation = await answered(request);
    lives.on(creation, 'delivered');
    creation.release();
    return creation;
  };
  const detailOf = (wanted: string) => details.find(({ step }) => step === wanted);
  return {
    clock,
    runtime,
    lives,
    steps,
    details,
    seen,
    queued,
    running,
    ended,
    held,
    answered,
    delivered,
    detailOf,
  };
}

/** Keeps each removal from its end until it is let go on. */
function gateRemovals(runtime: TestRuntime): () => void {
  let open = () => {};
  const gate = new Promise<void>((resolve) => {
    open = resolve;
  });
  const remove = runtime.remove.bind(runtime);
  runtime.remove = async (subject) => {
    await gate;
    await remove(subject);
  };
  return open;
}

const busy = (times: number) => Array.from({ length: times }, () => new Error('busy'));
const created = { state: ContainerState.created };

t.test('each step is told with the time since the creation was first asked for, and with what more is known', (t) => {
  const { clock, lives, queued, details } = setUp();
  clock.skip(3_000);
  const creation = queued();
  clock.skip(250);
  lives.step('hangs', creation, { tookMs: 7 });
  lives.step('replayed', creation);
  t.same(details, [
    { step: 'hangs', state: 'queued', ageMs: 250, tookMs: 7 },
    { step: 'replayed', state: 'queued', ageMs: 250 },
  ]);
  t.end();
});

t.test('an event that means nothing in its state changes and tells nothing', (t) => {
  const { lives, queued, steps } = setUp();
  const creation = queued();
  lives.on(creation, 'delivered');
  t.equal(creation.state, 'queued');
  t.same(steps, []);
  t.end();
});

t.test('a container may become hidden any moment from its upstream call on until somebody has it', async (t) => {
  const { lives, running } = setUp();
  t.equal(lives.mayHide, false, 'there is nothing');
  const { creation, end } = running();
  t.same([lives.mayHide, lives.hiddenCount], [true, 0], 'while it is made');
  await end();
  creation.claim();
  lives.on(creation, 'answered with waiters');
  t.same([lives.mayHide, lives.hiddenCount], [true, 0], 'while its answer is under way');
  lives.on(creation, 'delivered');
  t.same([lives.mayHide, lives.hiddenCount], [false, 0]);
});

t.test('a container that waits for its turn may become hidden where nobody waits for it', (t) => {
  const { lives, queued } = setUp();
  const creation = queued();
  t.equal(lives.mayHide, false);
  lives.hide(creation);
  t.same([lives.mayHide, lives.hiddenCount, lives.hidesUnknownIds], [true, 1, true]);
  t.end();
});

t.test('a container that fails, or is somebody’s otherwise, hides nothing any more', async (t) => {
  const { lives, running, answered } = setUp();
  const { creation } = running();
  lives.on(creation, 'failed');
  t.equal(lives.mayHide, false);
  t.equal(creation.call.inFlight, true, 'how its call ends is told by that');
  lives.on(await answered(), 'id used');
  t.equal(lives.mayHide, false);
});

t.test('a pod sandbox never hides', async (t) => {
  const { lives, running, held } = setUp();
  running(podSandbox());
  t.equal(lives.mayHide, false);
  lives.hide(await held(podSandbox(0, 'h', 'other')));
  t.equal(lives.mayHide, false);
});

t.test('what somebody has, and what is no more, is not hidden', async (t) => {
  const { lives, delivered } = setUp();
  const creation = await delivered();
  lives.hide(creation);
  t.equal(lives.hiddenCount, 0);
  lives.on(creation, 'id used');
  lives.hide(creation);
  t.equal(lives.hiddenCount, 0);
});

t.test('what was seen before a creation is made anew is not what is made', async (t) => {
  const { lives, queued } = setUp();
  const creation = queued();
  lives.hide(creation);
  t.equal(lives.hiddenOwner(item('old', created)), creation);
  t.equal(lives.hidesUnknownIds, false);
  lives.on(creation, 'begun');
  t.equal(creation.seenId, undefined);
  t.equal(lives.hidesUnknownIds, true);
  t.equal(lives.hiddenOwner(item('old', { name: 'other' })), undefined);
  t.equal(lives.hiddenOwner(item('new', created)), creation);
});

t.test('what is not hidden is not hidden by a new name', (t) => {
  const { lives, queued } = setUp();
  const creation = queued();
  lives.rename(creation, () => {
    creation.seenId = 'c1';
  });
  t.equal(creation.seenId, 'c1');
  t.equal(lives.hiddenCount, 0);
  t.end();
});

t.test('a container that nobody is given is hidden and said to be held', async (t) => {
  const { lives, held, clock, details } = setUp();
  const creation = await held();
  t.equal(lives.hiddenOwner(item('c1')), creation);
  t.same(details, [{ step: 'held', state: 'held', ageMs: 0 }]);
  t.equal(clock.pending, 1);
  t.equal(lives.index.find(creation.fingerprint), creation);
});

t.test('a pod sandbox that nobody is given is shown, and forgotten after the replay time', async (t) => {
  const { lives, held, clock, runtime, steps, detailOf } = setUp();
  const creation = await held(podSandbox(), 's1');
  t.equal(creation.state, 'shown');
  t.same(steps, ['shown']);
  t.same(lives.index.sizes, { live: 0, answered: 1 });
  t.equal(clock.pending, 0);
  await clock.advance(30_001);
  t.equal(lives.index.find(creation.fingerprint), undefined);
  t.equal(creation.state, 'gone');
  t.match(detailOf('forgotten'), { why: 'expired' });
  t.same(runtime.removed, []);
});

t.test('what is delivered is said so, found by its own key, and seen', async (t) => {
  const { lives, held, seen, steps } = setUp();
  const creation = await held();
  lives.on(creation, 'answered with waiters');
  t.equal(lives.hiddenCount, 1, 'not known to have arrived');
  lives.on(creation, 'delivered');
  t.same(steps, ['held', 'delivered']);
  t.same(seen, ['revealed c1']);
  t.equal(lives.hiddenCount, 0);
  t.equal(lives.index.find(creation.fingerprint), creation);
  t.equal(lives.index.find(container({ attempt: 1 }).fingerprint), undefined);
  t.same(lives.index.sizes, { live: 0, answered: 1 });
});

t.test('nobody is told that what was never hidden is seen, or is no more', async (t) => {
  const { lives, delivered, running, seen } = setUp();
  lives.on(await delivered(), 'id used');
  lives.on(running().creation, 'failed');
  t.same(seen, []);
});

t.test('what is delivered is forgotten where there is no room, and is left alone', async (t) => {
  const { lives, delivered, runtime, detailOf } = setUp({ maxEntries: 1 });
  const first = await delivered();
  t.equal(first.state, 'delivered');
  await delivered(container({ name: 'other' }));
  t.equal(first.state, 'gone');
  t.equal(lives.index.find(first.fingerprint), undefined);
  t.match(detailOf('forgotten'), { why: 'expired' });
  t.same(runtime.removed, []);
});

t.test('what is held for hold-ttl is removed, and not before', async (t) => {
  const { held, lives, clock, runtime, steps, seen, detailOf } = setUp();
  const creation = await held();
  clock.skip(5_000);
  creation.call.lastAskedMs = clock.now();
  await clock.advance(4_999);
  t.equal(creation.state, 'held');
  await clock.advance(1);
  t.same(runtime.removed, ['c1']);
  t.same(steps, ['held', 'reaped']);
  t.match(detailOf('reaped'), { why: 'expired', heldMs: 5_000, ageMs: 10_000 });
  t.same(seen, ['vanished c1']);
  t.equal(creation.state, 'gone');
  t.same([lives.mayHide, [...lives.index.all()]], [false, []]);
});

t.test('its time begins anew when an answer with it has not arrived', async (t) => {
  const { held, lives, clock } = setUp();
  const creation = await held();
  await clock.advance(6_000);
  creation.claim();
  lives.on(creation, 'answered with waiters');
  t.equal(clock.pending, 0);
  await clock.advance(6_000);
  lives.release(creation);
  t.equal(creation.state, 'held');
  await clock.advance(9_999);
  t.equal(creation.state, 'held');
  await clock.advance(1);
  t.equal(creation.state, 'gone');
});

t.test('what is checked when its time is over is removed after that, unless it is given away', async (t) => {
  const { held, lives, clock, runtime } = setUp();
  const creation = await held();
  creation.claim();
  await clock.advance(10_000);
  t.equal(creation.state, 'held');
  lives.release(creation);
  t.equal(creation.state, 'doomed');
  await settle();
  t.same(runtime.removed, ['c1']);
});

t.test('a check that is over before its time is leaves it held', async (t) => {
  const { held, lives, clock } = setUp();
  clock.skip(20_000);
  const creation = await held();
  creation.claim(2);
  await clock.advance(10_000);
  lives.release(creation);
  t.equal(creation.state, 'held', 'another check is not over');
  lives.release(creation);
  t.equal(creation.state, 'doomed');

  const other = await held({ name: 'other' });
  other.claim();
  await clock.advance(9_000);
  lives.release(other);
  t.equal(other.state, 'held');
});

t.test('an answer that is not known to have arrived leaves a container held, when it is the last one', async (t) => {
  const { answered, lives } = setUp();
  const creation = await answered();
  creation.claim();
  lives.release(creation);
  t.equal(creation.state, 'answered');
  lives.release(creation);
  t.equal(creation.state, 'held');
});

t.test('a check that is over leaves what is shown or delivered as it is, however old', async (t) => {
  const { held, delivered, lives, clock } = setUp();
  for (const creation of [await held(podSandbox(), 's1'), await delivered()]) {
    const { state } = creation;
    creation.claim();
    await clock.advance(15_000);
    lives.release(creation);
    t.equal(creation.state, state);
  }
});

t.test('what is doomed is hidden and found no more, and is in the way of its family until it is removed', async (t) => {
  const { running, lives, runtime, steps } = setUp();
  const { creation, end } = running();
  lives.become(creation, 'doomed', 'superseded');
  t.equal(lives.hiddenOwner(item('c1', created)), creation);
  t.equal(lives.index.find(creation.fingerprint), undefined);
  t.same([...lives.index.doomed(creation.fingerprint)], [creation]);
  t.same(steps, ['superseded']);
  await settle();
  t.equal(creation.state, 'doomed', 'its call has not ended');
  await end();
  t.same(runtime.removed, ['c1']);
  t.equal(creation.state, 'gone');
  t.same([...lives.index.doomed(creation.fingerprint)], []);
});

t.test('only what makes way for another request is said to', async (t) => {
  const { held, lives, steps, detailOf } = setUp();
  lives.on(await held(), 'found unusable');
  await settle();
  t.same(steps, ['held', 'reaped']);
  t.match(detailOf('reaped'), { why: 'found unusable' });
});

t.test('what is doomed and answered is removed once no answer with it is under way', async (t) => {
  const { answered, lives, runtime } = setUp();
  const creation = await answered();
  lives.become(creation, 'doomed', 'superseded');
  await settle();
  t.same(runtime.checked, []);
  lives.release(creation);
  await settle();
  t.same(runtime.removed, ['c1']);
});

t.test('what is doomed and fails needs no removal', async (t) => {
  const { running, lives, steps, seen } = setUp();
  const { creation } = running();
  lives.become(creation, 'doomed', 'superseded');
  creation.call.fail(new Error('disk full'));
  await settle();
  t.same(steps, ['superseded'], 'nothing is tried');
  t.equal(creation.state, 'doomed', 'the failure is an event of its own');
  lives.on(creation, 'failed');
  t.equal(creation.state, 'gone');
  t.same(seen, ['vanished undefined']);
  t.equal(lives.mayHide, false);
});

t.test('what is used before its removal begins is not even looked at', async (t) => {
  const { answered, lives, runtime } = setUp();
  const creation = await answered();
  lives.become(creation, 'doomed', 'superseded');
  lives.on(creation, 'id used');
  lives.release(creation);
  await settle();
  t.same(runtime.checked, []);
});

t.test('a removal that fails is told each time, with the next try, and with what it failed with', async (t) => {
  const { held, lives, clock, runtime, details, seen } = setUp();
  const creation = await held();
  runtime.removalErrors = busy(5);
  const [first] = runtime.removalErrors;
  lives.become(creation, 'doomed', 'superseded');
  await settle();
  t.equal(creation.removalError, first);
  t.match(details.at(-1), { step: 'removal failed', error: first, nextTryMs: 1_000 });
  await clock.advance(15_000);
  t.match(details.at(-2), { step: 'removal given up', error: { message: 'busy' }, nextTryMs: undefined });
  t.match(details.at(-1), { step: 'forgotten', why: 'removal given up' });
  t.equal(creation.state, 'gone');
  t.same(seen, ['revealed c1']);
  t.equal(lives.mayHide, false);
});

t.test('what is found in use when it is to be removed is said to be, and seen', async (t) => {
  const { held, lives, runtime, steps, seen, detailOf } = setUp();
  const creation = await held();
  runtime.conditions.set('c1', 'in use');
  lives.become(creation, 'doomed', 'superseded');
  await settle();
  t.same(runtime.removed, []);
  t.same(steps, ['held', 'superseded', 'in use', 'forgotten']);
  t.match(detailOf('in use'), { why: 'superseded' });
  t.match(detailOf('forgotten'), { why: 'found in use' });
  t.same(seen, ['revealed c1']);
});

t.test('what is used while it is removed is said neither to be removed nor to be in use', async (t) => {
  for (const condition of ['as made', 'in use'] as const) {
    const { held, lives, runtime, steps, seen } = setUp();
    const creation = await held();
    runtime.conditions.set('c1', condition);
    const open = gateRemovals(runtime);
    let look = () => {};
    if (condition === 'in use') {
      runtime.checkGate = new Promise((resolve) => {
        look = resolve;
      });
    }
    lives.become(creation, 'doomed', 'superseded');
    await settle();
    lives.on(creation, 'id used');
    look();
    open();
    await settle();
    t.same(steps, ['held', 'superseded', 'forgotten']);
    t.same(seen, ['revealed c1']);
  }
});

t.test('what is gone is not found, has no timer, and no longer keeps its name', async (t) => {
  const { held, lives, clock } = setUp();
  const creation = await held();
  let isGone = false;
  void creation.gone.then(() => {
    isGone = true;
  });
  lives.on(creation, 'found absent');
  await settle();
  t.equal(isGone, true);
  t.equal(clock.pending, 0);
  t.same([...lives.index.all()], []);
});

t.test('what is found absent is no more: it is said to have vanished, and nothing to be forgotten', async (t) => {
  const { held, lives, seen, steps } = setUp();
  lives.on(await held(), 'found absent');
  t.same(seen, ['vanished c1']);
  t.same(steps, ['held']);
  t.equal(lives.mayHide, false);
});

t.test('what is forgotten is said so with the reason where there is something made', async (t) => {
  const { held, queued, lives, details, steps } = setUp();
  lives.on(queued(), 'pod sandbox ended');
  t.same(steps, []);
  lives.on(await held(), 'id used');
  t.match(details.at(-1), { step: 'forgotten', why: 'id used', ageMs: 0 });
});

t.test('who waits for a queued container whose pod sandbox has ended is told so', async (t) => {
  const { queued, lives } = setUp();
  const creation = queued(container({ podSandboxId: 's1' }));
  const waiting = creation.call.join(new AbortController().signal);
  lives.on(creation, 'pod sandbox ended');
  await t.rejects(waiting, new PodSandboxEndedError('s1'));
});

t.test('a hidden container is told to whoever looks, until it has run', async (t) => {
  for (const state of [ContainerState.running, ContainerState.exited]) {
    for (const asView of [false, true]) {
      const { held, lives, seen, detailOf } = setUp();
      const creation = await held();
      const owner = asView ? lives.hiddenView() : (about: ReturnType<typeof item>) => lives.hiddenOwner(about);
      t.equal(owner(item('other', { name: 'other', state })), undefined);
      t.equal(owner(item('c1')), creation, 'of an unknown state');
      for (const unused of [ContainerState.created, ContainerState.unknown]) {
        t.equal(owner(item('c1', { state: unused })), creation);
      }
      t.equal(owner(item('c1', { state })), undefined);
      t.equal(creation.state, 'gone');
      t.match(detailOf('forgotten'), { why: 'found in use' });
      t.same(seen, ['revealed c1']);
    }
  }
});

t.test('a report that was asked for before a container was removed leaves it out', async (t) => {
  const { held, lives } = setUp();
  const creation = await held();
  const view = lives.hiddenView();
  lives.on(creation, 'found absent');
  t.equal(view(item('c1')), creation);
  t.equal(view(item('c1', { state: ContainerState.exited })), undefined);
  t.equal(lives.hiddenView()(item('c1')), undefined);
});

t.test('a container of the same name that has run does not make one that is being made somebody’s', (t) => {
  const { running, lives } = setUp();
  const { creation } = running();
  lives.become(creation, 'doomed', 'superseded');
  t.equal(lives.hiddenOwner(item('old', { state: ContainerState.exited })), undefined);
  t.equal(creation.state, 'doomed');
  t.equal(lives.hiddenOwner(item('c1', created)), creation);
  t.end();
});

/** Whether it has been settled by now. */
function watched(promise: Promise<void>): () => Promise<boolean> {
  let isOver = false;
  void promise.then(() => {
    isOver = true;
  });
  return async () => {
    await settle();
    return isOver;
  };
}

t.test('at the end, what is held is removed, and all else is left', async (t) => {
  const { held, running, answered, delivered, lives, clock, runtime, detailOf } = setUp();
  const first = await held({ name: 'a' }, 'id-a');
  await held({ name: 'b' }, 'id-b');
  await held(podSandbox(), 's1');
  await answered(container({ name: 'answered' }));
  await delivered(container({ name: 'delivered' }));
  running(container({ name: 'running' }));
  await lives.removeHeld();
  t.same(runtime.removed, ['id-a', 'id-b']);
  t.equal(first.state, 'gone');
  t.match(detailOf('reaped'), { why: 'Holdfast ends' });
  t.equal(clock.pending, 1, 'the time limit of the call under way');
});

t.test('the end does not wait for what is under way, though it is to be removed', async (t) => {
  const { running, lives, runtime } = setUp();
  const { creation, end } = running();
  lives.become(creation, 'doomed', 'superseded');
  t.equal(await watched(lives.removeHeld())(), true);
  await end();
  t.same(runtime.removed, ['c1']);
});

t.test('the end waits for all removals, also for those that begin meanwhile', async (t) => {
  const { held, ended, lives, runtime } = setUp();
  await held({ name: 'a' }, 'id-a');
  const late = await ended(container({ name: 'b' }), 'id-b');
  const openFirst = gateRemovals(runtime);
  const isOver = watched(lives.removeHeld());
  t.equal(await isOver(), false);
  const openSecond = gateRemovals(runtime);
  lives.on(late, 'answered with nobody waiting');
  openFirst();
  t.equal(await isOver(), false);
  t.same(runtime.removed, ['id-a']);
  openSecond();
  t.equal(await isOver(), true);
  t.same(runtime.removed, ['id-a', 'id-b']);
});

t.test('a removal that waits for its next try is tried at once at the end, and then given up', async (t) => {
  for (const ends of ['removeHeld', 'close'] as const) {
    const { held, lives, clock, runtime, seen } = setUp();
    runtime.removalErrors = busy(2);
    lives.become(await held(), 'doomed', 'superseded');
    await settle();
    t.equal(clock.pending, 1);
    void lives[ends]();
    await settle();
    t.same(runtime.removalErrors, []);
    t.same(seen, ['revealed c1']);
    t.equal(clock.pending, 0);
  }
});

t.test('once it is closed no timer is left, and what becomes held is removed at once', async (t) => {
  const { held, ended, lives, clock, runtime, detailOf } = setUp();
  const creation = await held({ name: 'a' }, 'id-a');
  const late = await ended(container({ name: 'b' }), 'id-b');
  lives.close();
  t.equal(clock.pending, 0);
  t.equal(creation.state, 'held');
  lives.on(late, 'answered with nobody waiting');
  await settle();
  t.same(runtime.removed, ['id-b']);
  t.match(detailOf('reaped'), { why: 'Holdfast ends' });
  t.equal(clock.pending, 0);
});

t.test('since when it is so is known of each state, and whether it is hidden', async (t) => {
  const { lives, clock, queued, running } = setUp();
  const creation = queued();
  t.equal(creation.stateSinceMs, 1_000);
  t.equal(lives.isHidden(creation), false);
  await clock.advance(500);
  const { creation: other, end } = running(container({ name: 'other' }));
  t.equal(other.stateSinceMs, 1_500);
  await clock.advance(500);
  await end();
  lives.on(other, 'answered with nobody waiting');
  t.equal(other.stateSinceMs, 2_000);
  t.equal(lives.isHidden(other), true);
});

t.test('what could not be removed is remembered with what it failed with', async (t) => {
  const { lives, clock, runtime, held } = setUp();
  const creation = await held();
  t.same(lives.givenUpRemovals.all, []);
  runtime.removalErrors = Array.from({ length: 5 }, () => new Error('busy'));
  lives.become(creation, 'doomed', 'superseded');
  await clock.advance(15_000);
  t.same(lives.givenUpRemovals.all, [
    { identity: creation.fingerprint.identity, id: 'c1', sinceMs: 16_000, error: new Error('busy') },
  ]);
});

import t from 'tap';
import { settle } from '../support/manual-clock.js';
import { container, lone, podSandbox } from './store-rig.js';

t.test('a creation begins queued, with nothing made, given, seen or found', (t) => {
  const creation = lone(container());
  t.same(creation.keys, []);
  t.match(creation, {
    state: 'queued',
    made: undefined,
    resources: '',
    seenId: undefined,
    obstacle: undefined,
    reservation: undefined,
    heldSinceMs: 0,
    failedChecks: 0,
    failedUpdates: 0,
    claims: 0,
  });
  t.end();
});

t.test('what it is and where it belongs is what was last asked for', (t) => {
  const creation = lone(container({ podSandboxId: 's1' }));
  t.match(creation, { kind: 'container', podSandboxId: 's1' });
  creation.asked = container({ podSandboxId: 's2' });
  t.match(creation, { podSandboxId: 's2', fingerprint: creation.asked.fingerprint });
  t.match(lone(podSandbox()), { kind: 'podSandbox', podSandboxId: '' });
  t.end();
});

t.test('there is something to look at and to remove once it is made', (t) => {
  const creation = lone(container());
  t.equal(creation.subject, undefined);
  creation.made = { id: 'c1', answer: 'answer' };
  t.same(creation.subject, { kind: 'container', id: 'c1', podSandboxId: 's', origin: 'test' });
  t.end();
});

/** Whether it is quiet by now, when asked again. */
async function watched(quiet: Promise<void>): Promise<() => Promise<boolean>> {
  let isQuiet = false;
  void quiet.then(() => {
    isQuiet = true;
  });
  return async () => {
    await settle();
    return isQuiet;
  };
}

t.test('it is quiet when the last of its claims is released', async (t) => {
  const creation = lone(container());
  creation.claim();
  creation.claim(2);
  t.equal(creation.claims, 3);
  const isQuiet = await watched(creation.quiet());
  creation.release();
  creation.release();
  t.equal(creation.claims, 1);
  t.equal(await isQuiet(), false);
  creation.release();
  t.equal(creation.claims, 0);
  t.equal(await isQuiet(), true);
});

t.test('what nobody claims is quiet at once, also where it was claimed before', async (t) => {
  const creation = lone(container());
  creation.claim();
  creation.release();
  t.equal(await (await watched(creation.quiet()))(), true);
});

t.test('when it is gone, its timer and its preparation end and its name is free', async (t) => {
  const creation = lone(container());
  const ended: string[] = [];
  creation.cancelHoldTimer = () => ended.push('timer');
  creation.endPreparation = () => ended.push('preparation');
  void creation.gone.then(() => ended.push('name'));
  await settle();
  t.same(ended, []);
  creation.markGone();
  await settle();
  t.same(ended, ['timer', 'preparation', 'name']);
});

t.test('one without a timer and a preparation may be gone, too', async (t) => {
  const creation = lone(container());
  creation.markGone();
  t.equal(await creation.gone, undefined);
});

/** What is found, and by what, from the first request on until it is gone. */
import t from 'tap';
import type { Creation } from '../../src/cache/creation.js';
import { CreationIndex } from '../../src/cache/creation-index.js';
import { ManualClock } from '../support/manual-clock.js';
import { type ContainerFields, container, lone, podSandbox } from './store-rig.js';

type Found = Creation<string, string>;

/** An id as runtimes give them. */
const full = (begin: string) => begin.padEnd(64, '0');

function setUp({ maxEntries = 100 } = {}) {
  const clock = new ManualClock();
  const evicted: Found[] = [];
  const index = new CreationIndex<string, string>(clock, {
    replayTtlMs: 30_000,
    maxEntries,
    evicted(creation) {
      evicted.push(creation);
      index.remove(creation);
    },
  });
  const begun = (creation: Found): Found => {
    index.add(creation);
    return creation;
  };
  const made = (id: string, fields: ContainerFields = {}, creation = lone(container(fields), clock)): Found => {
    begun(creation);
    creation.made = { id, answer: '' };
    index.made(creation, id);
    return creation;
  };
  const delivered = (creation: Found): Found => {
    creation.state = 'delivered';
    index.delivered(creation);
    return creation;
  };
  const shown = (creation: Found): Found => {
    creation.state = 'shown';
    index.shown(creation);
    return creation;
  };
  return { clock, index, evicted, begun, made, delivered, shown };
}

const { fingerprint: asked } = container();
const { fingerprint: nextAttempt } = container({ attempt: 1 });

t.test('what is nobody’s is found by any attempt, what is delivered by its own alone', (t) => {
  const { index, begun, delivered } = setUp();
  t.equal(index.find(asked), undefined);
  const creation = begun(lone(container()));
  t.equal(index.find(asked), creation);
  t.equal(index.find(nextAttempt), creation);
  t.equal(index.find(container({ name: 'other' }).fingerprint), undefined);
  delivered(creation);
  t.equal(index.find(asked), creation);
  t.equal(index.find(nextAttempt), undefined);
  t.end();
});

t.test('what was delivered for the very request comes before what is being made of another attempt', (t) => {
  const { index, begun, delivered } = setUp();
  const first = delivered(begun(lone(container())));
  const second = begun(lone(container({ attempt: 1 })));
  t.equal(index.find(asked), first);
  t.equal(index.find(nextAttempt), second);
  t.end();
});

t.test('it answers to its own key, and once to each other one that it is given for', (t) => {
  const { index, begun, delivered } = setUp();
  const creation = begun(lone(container()));
  t.same(creation.keys, [asked.key]);
  index.answerTo(creation, asked.key);
  index.answerTo(creation, nextAttempt.key);
  index.answerTo(creation, nextAttempt.key);
  t.same(creation.keys, [asked.key, nextAttempt.key]);
  delivered(creation);
  t.equal(index.find(nextAttempt), creation);
  t.same([...index.all()], [creation], 'and is one all the same');
  const { fingerprint: third } = container({ attempt: 2 });
  index.answerTo(creation, third.key);
  t.equal(index.find(third), creation, 'also where it is delivered by then');
  index.remove(creation);
  t.same(
    [asked, nextAttempt, third].map((fingerprint) => index.find(fingerprint)),
    [undefined, undefined, undefined],
  );
  t.end();
});

t.test('what is given for a key before it is delivered is found by that only then', (t) => {
  const { index, begun } = setUp();
  const creation = begun(lone(container()));
  index.answerTo(creation, asked.key);
  index.doom(creation);
  t.equal(index.find(asked), undefined);
  t.end();
});

t.test('a queued creation that becomes another request’s answers to that alone, in that pod sandbox', (t) => {
  const { index, begun } = setUp();
  const creation = begun(lone(container({ podSandboxId: 's1' })));
  index.withdraw(creation);
  creation.asked = container({ attempt: 1, podSandboxId: 's2' });
  index.add(creation);
  t.same(creation.keys, [nextAttempt.key]);
  t.same(index.inside('s1'), []);
  t.same(index.inside('s2'), [creation]);
  t.same([...index.all()], [creation]);
  t.end();
});

t.test('what is to be removed is found by no request, and is in the way of its family until it is gone', (t) => {
  const { index, begun } = setUp();
  const [first, second] = [begun(lone(container())), lone(container({ attempt: 1 }))];
  t.same([...index.doomed(asked)], []);
  index.doom(first);
  t.equal(index.find(asked), undefined);
  index.doom(begun(second));
  t.same([...index.doomed(nextAttempt)], [first, second]);
  t.same([...index.doomed(container({ name: 'other' }).fingerprint)], []);
  index.remove(first);
  t.same([...index.doomed(asked)], [second]);
  t.same([...index.all()], [second]);
  index.remove(second);
  t.same([...index.doomed(asked)], []);
  t.end();
});

t.test('what is being made stays found when one of its family is to be removed, delivered or gone', (t) => {
  const { index, begun, delivered } = setUp();
  const [first, second] = [begun(lone(container())), lone(container({ attempt: 1 }))];
  index.doom(first);
  begun(second);
  index.remove(first);
  t.equal(index.find(nextAttempt), second);
  delivered(first);
  t.equal(index.find(nextAttempt), second);
  t.end();
});

t.test('what was delivered last for a key stays found when the one before is gone', (t) => {
  const { index, begun, delivered } = setUp();
  const [first, second] = [delivered(begun(lone(container()))), delivered(begun(lone(container())))];
  index.remove(first);
  t.equal(index.find(asked), second);
  t.end();
});

t.test('all there is: what is under way, what is to be removed, what somebody has', (t) => {
  const { index, begun, delivered } = setUp();
  const of = (name: string) => begun(lone(container({ name })));
  const [running, doomed, has] = [of('a'), of('b'), of('d')];
  index.doom(doomed);
  delivered(has);
  t.same([...index.all()], [running, doomed, has]);
  t.end();
});

t.test('what is under way and held counts as live, what may be given again as answered', (t) => {
  const { index, begun, delivered, shown } = setUp();
  t.same(index.sizes, { live: 0, answered: 0 });
  const creation = begun(lone(podSandbox()));
  begun(lone(container()));
  t.same(index.sizes, { live: 2, answered: 0 });
  shown(creation);
  t.same(index.sizes, { live: 1, answered: 1 });
  delivered(creation);
  t.same(index.sizes, { live: 1, answered: 1 });
  index.remove(creation);
  t.same(index.sizes, { live: 1, answered: 0 });
  t.end();
});

t.test('what is made is named by its id or a prefix that no other of its kind has', (t) => {
  const { clock, index, made } = setUp();
  const creation = made(full('ab1'));
  const podSandboxId = full('ab2');
  const sandbox = made(podSandboxId, {}, lone(podSandbox(), clock));
  t.equal(index.named('container', full('ab1')), creation);
  t.equal(index.named('podSandbox', full('ab1')), undefined);
  t.equal(index.named('container', 'ab'), creation);
  t.equal(index.named('podSandbox', 'ab'), sandbox);
  t.equal(index.named('container', 'b1'), undefined);
  t.equal(index.named('container', ''), undefined);
  made(full('ab3'), { name: 'other' });
  t.equal(index.named('container', 'ab'), undefined, 'of two');
  t.equal(index.named('container', 'ab1'), creation);
  index.remove(creation);
  t.equal(index.named('container', full('ab1')), undefined);
  t.equal(index.named('container', 'ab1'), undefined);
  t.end();
});

t.test('a short id is its own, though another begins with it', (t) => {
  const { index, made } = setUp();
  const short = made('ab');
  made('ab1', { name: 'other' });
  t.equal(index.named('container', 'ab'), short);
  t.end();
});

t.test('a full id is no prefix', (t) => {
  const { index, made } = setUp();
  made(`${full('ab')}0`, { podSandboxId: `${full('s')}0` });
  t.equal(index.named('container', full('ab')), undefined);
  t.ok(index.named('container', full('ab').slice(0, 63)));
  t.same(index.inside(full('s')), []);
  t.equal(index.inside(full('s').slice(0, 63)).length, 1);
  t.end();
});

t.test('an id that two were given is the second’s, and stays so when the first is gone', (t) => {
  const { index, made } = setUp();
  const first = made('c1', { name: 'a' });
  const second = lone(container({ name: 'b' }));
  second.made = { id: 'c1', answer: '' };
  t.equal(index.made(second, 'c1'), first);
  t.equal(index.named('container', 'c1'), second);
  index.remove(first);
  t.equal(index.named('container', 'c1'), second);
  index.remove(second);
  t.equal(index.named('container', 'c1'), undefined);
  t.end();
});

t.test('an id that nobody had before was nobody’s', (t) => {
  const { index } = setUp();
  t.equal(index.made(lone(container()), 'c1'), undefined);
  t.end();
});

t.test('containers are found by their pod sandbox or a prefix that no other has', (t) => {
  const { index, begun } = setUp();
  const [a, b, other] = [
    begun(lone(container({ name: 'a', podSandboxId: full('ab1') }))),
    begun(lone(container({ name: 'b', podSandboxId: full('ab1') }))),
    begun(lone(container({ name: 'a', podSandboxId: full('ab2') }))),
  ];
  t.same(index.inside(full('ab1')), [a, b]);
  t.same(index.inside('ab1'), [a, b]);
  t.same(index.inside('ab'), [], 'of two');
  t.same(index.inside('b1'), []);
  t.same(index.inside(''), []);
  index.remove(a);
  t.same(index.inside('ab1'), [b]);
  index.remove(b);
  t.same(index.inside('ab1'), []);
  t.same(index.inside('ab'), [other], 'of one by now');
  t.end();
});

t.test('a short pod sandbox id is its own, though another begins with it', (t) => {
  const { index, begun } = setUp();
  const creation = begun(lone(container({ podSandboxId: 'ab' })));
  begun(lone(container({ podSandboxId: 'ab1' })));
  t.same(index.inside('ab'), [creation]);
  t.end();
});

t.test('a pod sandbox is in no pod sandbox', (t) => {
  const { index, begun } = setUp();
  begun(lone(podSandbox()));
  t.same(index.inside(''), []);
  t.end();
});

t.test('what is delivered or to be removed stays in its pod sandbox until it is gone', (t) => {
  const { index, begun, delivered } = setUp();
  const creation = delivered(begun(lone(container())));
  t.same(index.inside('s'), [creation]);
  const doomed = begun(lone(container({ name: 'other' })));
  index.doom(doomed);
  t.same(index.inside('s'), [creation, doomed]);
  t.end();
});

for (const how of ['delivered', 'shown'] as const) {
  t.test(`what is ${how} is too old when it is asked for more than the replay time later`, (t) => {
    const rig = setUp();
    const { clock, index, evicted } = rig;
    const creation = rig[how](rig.begun(lone(podSandbox())));
    clock.skip(30_000);
    t.equal(index.find(creation.fingerprint), creation);
    clock.skip(1);
    t.equal(index.find(podSandbox(1).fingerprint), undefined);
    t.equal(index.find(creation.fingerprint), undefined);
    t.same(evicted, [creation]);
    t.end();
  });
}

t.test('its time begins anew when it is delivered', (t) => {
  const { clock, index, begun, shown, delivered } = setUp();
  const creation = shown(begun(lone(podSandbox())));
  clock.skip(20_000);
  delivered(creation);
  clock.skip(20_000);
  t.equal(index.find(creation.fingerprint), creation);
  t.end();
});

t.test(
  'beyond the limit what was asked for the longest time ago goes, never what is under way or to be removed',
  (t) => {
    const { index, evicted, begun, delivered } = setUp({ maxEntries: 2 });
    const of = (name: string) => begun(lone(container({ name })));
    const [first, second] = [delivered(of('first')), delivered(of('second'))];
    of('running');
    index.doom(of('doomed'));
    t.same(evicted, []);
    t.equal(index.find(first.fingerprint), first);
    delivered(of('third'));
    t.same(evicted, [second]);
    t.end();
  },
);

t.test('what is shown and has to be removed makes room, and is not too old later', (t) => {
  const { clock, index, evicted, begun, delivered, shown } = setUp({ maxEntries: 1 });
  const creation = shown(begun(lone(podSandbox())));
  index.doom(creation);
  t.same(index.sizes, { live: 0, answered: 0 });
  delivered(begun(lone(container())));
  clock.skip(30_001);
  t.same(evicted, []);
  t.same([...index.doomed(creation.fingerprint)], [creation]);
  t.end();
});

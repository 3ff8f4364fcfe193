/** What is forwarded as it came, what is looked at and what is taken, and what is told of peers that misbehave. */
import t, { type Test } from 'tap';
import { CallCounts } from '../../src/admin/call-counts.js';
import { CreationStore } from '../../src/cache/creation-store.js';
import { StartStore } from '../../src/cache/start-store.js';
import { Events } from '../../src/proxy/events.js';
import { Relay } from '../../src/proxy/relay.js';
import { Turns } from '../../src/proxy/turns.js';
import { breakMethod } from '../support/break-method.js';
import { counted } from '../support/counted.js';
import { encodeMessage } from '../support/cri-client.js';
import { settle } from '../support/manual-clock.js';
import {
  containerMade,
  createContainer,
  heldContainer,
  listOf,
  passed,
  podSandboxMade,
  runPodSandbox,
  service,
  setUp,
  withId,
} from './core-rig.js';

function stage() {
  const rig = setUp();
  const { handlers } = rig;
  const decide = (method: string) => handlers.decide(`${service}/${method}`);
  const observe = (method: string, request: Buffer) => handlers.observe(`${service}/${method}`, request);
  return { ...rig, decide, observe };
}

t.test('what makes or starts something and events are taken, ids in a request looked at, the rest is passed', (t) => {
  const { decide, handlers } = stage();
  for (const method of ['RunPodSandbox', 'CreateContainer', 'StartContainer', 'GetContainerEvents']) {
    t.equal(decide(method), 'take', method);
  }
  for (const method of ['StopPodSandbox', 'RemoveContainer', 'ExecSync', 'PortForward']) {
    t.equal(decide(method), 'observe', method);
  }
  for (const method of ['Version', 'Status', 'ListPodSandbox', 'AddedLater']) t.equal(decide(method), 'pass', method);
  t.equal(handlers.decide('/runtime.v1.ImageService/PullImage'), 'pass');
  t.equal(handlers.decide(`/runtime.v1alpha2.RuntimeService/RunPodSandbox`), 'take');
  t.end();
});

t.test('reports of containers are taken only while a container is being made or hidden', async (t) => {
  const { decide, handlers, take, asked, close } = stage();
  t.equal(decide('ListContainers'), 'report');
  t.equal(handlers.takesLate?.(), false);
  const { done, leave } = take('CreateContainer', createContainer());
  await passed();
  t.equal(asked.length, 1);
  t.equal(decide('ListContainers'), 'take');
  t.equal(decide('PodSandboxStatus'), 'take');
  t.equal(decide('ListPodSandbox'), 'pass', 'it tells of no container');
  t.equal(handlers.takesLate?.(), true);
  leave();
  await done;
  await asked[0]?.answer(containerMade('made'));
  t.equal(decide('ListContainers'), 'take', 'it is hidden');
  close();
});

t.test('calls are counted by method and by what is done with them', async (t) => {
  const rig = stage();
  const { decide, handlers, metrics } = rig;
  for (const method of ['Version', 'Version', 'RunPodSandbox', 'ListContainers']) decide(method);
  handlers.decide('/some.Other/Method');
  await heldContainer(rig);
  decide('ListContainers');
  const text = await metrics.registry.metrics();
  for (const [method, handling, count] of [
    ['Version', 'passed', 2],
    ['RunPodSandbox', 'taken', 1],
    ['ListContainers', 'passed', 1],
    ['ListContainers', 'taken', 1],
    ['other', 'passed', 1],
  ] as const) {
    const line = text.split('\n').find((each) => each.includes(`"${method}"`) && each.includes(`"${handling}"`));
    t.match(line, new RegExp(` ${count}$`), `${method} ${handling}`);
  }
});

t.test('how calls end is counted by method and code', async (t) => {
  const { handlers, metrics } = stage();
  handlers.ended?.(`${service}/Version`, 0, 1);
  handlers.ended?.('/runtime.v1.ImageService/PullImage', 14, 1);
  handlers.ended?.('/some.Other/Method', undefined, 1);
  handlers.ended?.(`${service}/ListPodSandbox`, 0, 20_000);
  const text = await metrics.registry.metrics();
  t.strictSame(text.match(/^holdfast_calls_ended_total.* [1-9]\d*$/gm), [
    'holdfast_calls_ended_total{method="Version",code="OK"} 1',
    'holdfast_calls_ended_total{method="ListPodSandbox",code="OK"} 1',
    'holdfast_calls_ended_total{method="PullImage",code="Unavailable"} 1',
    'holdfast_calls_ended_total{method="other",code="unread"} 1',
  ]);
  t.match(text, 'holdfast_list_call_duration_seconds_sum{method="ListPodSandbox"} 20\n');
});

t.test('what makes nothing that can be told apart goes to the runtime as it came', async (t) => {
  for (const [method, request] of [
    ['RunPodSandbox', Buffer.alloc(0)],
    ['CreateContainer', Buffer.from([0x0a, 0xff])],
    ['StartContainer', Buffer.alloc(0)],
    ['UpdateRuntimeConfig', Buffer.from('any')],
    ['AddedLater', Buffer.from('any')],
  ] as const) {
    const { take, asked } = stage();
    const { done, sent } = take(method, request);
    await passed();
    t.match(asked, [{ method, request }]);
    await asked[0]?.answer(Buffer.from('answer'));
    await done;
    t.same(sent, [Buffer.from('answer'), 0], method);
    t.equal(asked.length, 1);
  }
});

t.test('two calls that make or start something begin in one turn, others at once', async (t) => {
  const creations = stage();
  for (const uid of ['a', 'b', 'c']) creations.take('RunPodSandbox', runPodSandbox(uid));
  creations.take('ListContainers');
  creations.take('UpdateRuntimeConfig');
  const soon = async () => {
    for (let n = 0; n < 50; n++) await Promise.resolve();
  };
  const methods = ({ asked }: typeof creations) => asked.map(({ method }) => method).sort();
  await soon();
  t.same(methods(creations), ['ListContainers', 'RunPodSandbox', 'RunPodSandbox', 'UpdateRuntimeConfig']);
  await settle();
  await settle();
  t.equal(creations.asked.length, 5);

  const starts = stage();
  for (const id of ['a', 'b', 'c']) starts.take('StartContainer', withId(id));
  await soon();
  t.same(methods(starts), ['ListContainers', 'ListContainers'], 'whose containers they are is asked');
  await settle();
  await settle();
  t.equal(starts.asked.length, 3);
  for (const { close } of [creations, starts]) close();
});

t.test('a hidden container that somebody uses is hidden no more', async (t) => {
  const rig = stage();
  await heldContainer(rig);
  t.equal(rig.observe('ExecSync', Buffer.alloc(0)), undefined, 'no id, no use');
  t.equal(rig.observe('ExecSync', withId('c2')), undefined);
  t.equal(rig.decide('ListContainers'), 'take');
  t.equal(rig.observe('ExecSync', withId('c1')), undefined, 'how it ends says nothing');
  t.equal(rig.decide('ListContainers'), 'report');
});

t.test('what is ended is forgotten once the runtime has said that it is', async (t) => {
  const rig = stage();
  await heldContainer(rig);
  t.equal(rig.observe('RemoveContainer', Buffer.alloc(0)), undefined);
  const over = rig.observe('RemoveContainer', withId('c1'));
  t.equal(rig.decide('ListContainers'), 'take');
  over?.(false);
  t.equal(rig.decide('ListContainers'), 'take', 'it was refused');
  over?.(true);
  t.equal(rig.decide('ListContainers'), 'report');
});

t.test('a start whose container was stopped is not answered again', async (t) => {
  const rig = stage();
  const first = rig.take('StartContainer', withId('c1'), false);
  await passed();
  await rig.last('ListContainers').answer();
  await rig.last('StartContainer').answer();
  await first.done;
  rig.take('StartContainer', withId('c1'));
  await passed();
  await rig.last('ContainerStatus').answer();
  await rig.last('ListContainers').answer();
  await rig.last('StartContainer').answer();

  const second = rig.take('StartContainer', withId('c2'), false);
  await passed();
  await rig.last('ListContainers').answer();
  await rig.last('StartContainer').answer();
  await second.done;
  rig.observe('StopContainer', withId('c2'))?.(true);
  rig.take('StartContainer', withId('c2'));
  await passed();
  t.equal(rig.asked.at(-1)?.method, 'ListContainers', 'it begins anew');
  rig.close();
});

for (const [how, look] of [
  ['forwarded', (rig: ReturnType<typeof stage>) => rig.observe('PodSandboxStatus', withId('s1'))],
  ['taken', (rig: ReturnType<typeof stage>) => rig.take('PodSandboxStatus', withId('s1'))],
] as const) {
  t.test(`a look at a pod sandbox that was answered shows that its id has arrived (${how})`, async (t) => {
    const rig = stage();
    const { done } = rig.take('RunPodSandbox', runPodSandbox());
    await passed();
    await rig.last('RunPodSandbox').answer(podSandboxMade('s1'));
    await done;
    look(rig);
    rig.take('RunPodSandbox', runPodSandbox());
    await passed();
    t.equal(rig.asked.at(-1)?.method, 'RunPodSandbox', 'another one is wanted');
    rig.close();
  });

  t.test(`a look at a pod sandbox that nobody was answered shows nothing (${how})`, async (t) => {
    const rig = stage();
    const { done, leave } = rig.take('RunPodSandbox', runPodSandbox());
    await passed();
    leave();
    await done;
    await rig.last('RunPodSandbox').answer(podSandboxMade('s1'));
    look(rig);
    const again = rig.take('RunPodSandbox', runPodSandbox());
    await passed();
    const ready = encodeMessage('PodSandboxStatusResponse', { status: { id: 's1', state: 'SANDBOX_READY' } });
    await rig.last('PodSandboxStatus').answer(ready);
    await again.done;
    t.same(again.sent, [podSandboxMade('s1'), 0]);
    rig.close();
  });
}

t.test('a report that is taken loses what is hidden', async (t) => {
  const rig = stage();
  await heldContainer(rig);
  const { done, sent } = rig.take('ListContainers');
  await passed();
  await rig.last('ListContainers').answer(listOf('c0', 'c1'));
  await done;
  t.same(sent, [listOf('c0'), 0]);
  rig.close();
});

t.test('an unknown method has nothing to be noted', (t) => {
  const { handlers } = stage();
  t.equal(handlers.observe('/some.Other/Method', withId('c1')), undefined);
  t.end();
});

t.test('events of a container wait until it is somebody’s', async (t) => {
  const rig = stage();
  const { done, sent } = rig.take('GetContainerEvents');
  await heldContainer(rig);
  const event = encodeMessage('ContainerEventResponse', { container_id: 'c1' });
  await rig.subscriptions[0]?.send(event);
  t.same(sent, []);
  rig.observe('ExecSync', withId('c1'));
  await passed();
  t.same(sent, [event]);
  await rig.subscriptions[0]?.end();
  await done;
  t.same(sent, [event, 0]);
});

/** @param name A method of a store, or a getter, that throws from now on. */
function broken(t: Test, prototype: object, name: string) {
  const breakage = breakMethod(prototype, name);
  t.teardown(breakage.mend);
}

const faultsIn = async ({ metrics }: ReturnType<typeof stage>) =>
  Object.fromEntries((await counted(metrics.faults)).map(({ labels, value }) => [labels.method, value]));

t.test('a call that meets a fault before anything is done for it goes to the runtime as it came', async (t) => {
  broken(t, Turns.prototype, 'next');
  for (const method of ['RunPodSandbox', 'CreateContainer', 'StartContainer']) {
    const rig = stage();
    const request = method === 'StartContainer' ? withId('c1') : runPodSandbox();
    const { done, sent } = rig.take(method, request);
    await passed();
    t.match(rig.asked, [{ method, request }]);
    await rig.asked[0]?.answer(Buffer.from('made'));
    await done;
    t.same(sent, [Buffer.from('made'), 0]);
    t.same(await faultsIn(rig), { [method]: 1 });
    t.match(rig.lines, [{ level: 50, method, stack: /next is broken/, msg: 'fault inside Holdfast' }]);
  }
});

t.test('so does a subscription, and a call that Holdfast does not know', async (t) => {
  const rig = stage();
  broken(t, Events.prototype, 'subscribe');
  const { done, sent } = rig.take('GetContainerEvents');
  await passed();
  await rig.subscriptions[0]?.send(Buffer.from('event'));
  await rig.subscriptions[0]?.end();
  await done;
  t.same(sent, [Buffer.from('event'), 0]);
  t.same(await faultsIn(rig), { GetContainerEvents: 1 });
  const unary = breakMethod(Relay.prototype, 'unary', 1);
  const other = rig.take('AddedLater');
  await passed();
  await rig.last('AddedLater').answer();
  await other.done;
  unary.mend();
  t.same(other.sent, [Buffer.alloc(0), 0]);
  t.same(await faultsIn(rig), { GetContainerEvents: 1, other: 1 });
});

t.test('where it cannot be told what to do with a call it is passed', async (t) => {
  const rig = stage();
  broken(t, CreationStore.prototype, 'mayHide');
  t.equal(rig.decide('ListContainers'), 'pass');
  t.equal(rig.handlers.takesLate?.(), false);
  t.same(await faultsIn(rig), { ListContainers: 1, other: 1 });
  const counting = breakMethod(CallCounts.prototype, 'begun');
  t.equal(rig.decide('AddedLater'), 'pass');
  counting.mend();
  t.same(await faultsIn(rig), { ListContainers: 1, other: 2 });
});

t.test('a use or an end that cannot be noted is forwarded all the same', async (t) => {
  const rig = stage();
  await heldContainer(rig);
  const used = breakMethod(CreationStore.prototype, 'used');
  const starts = breakMethod(StartStore.prototype, 'ended');
  const over = rig.observe('StopContainer', withId('c1'));
  t.equal(rig.observe('ExecSync', withId('c1')), undefined);
  over?.(true);
  t.equal(rig.decide('ListContainers'), 'report', 'the creation is over all the same');
  used.mend();
  starts.mend();
  t.same(await faultsIn(rig), { StopContainer: 1, ExecSync: 1 });
  const ended = breakMethod(CreationStore.prototype, 'ended');
  const starts2 = breakMethod(StartStore.prototype, 'ended');
  rig.observe('RemoveContainer', withId('c1'))?.(true);
  ended.mend();
  starts2.mend();
  t.same(await faultsIn(rig), { StopContainer: 1, ExecSync: 1, RemoveContainer: 2 });
});

t.test('a look that cannot be noted is answered, without what is hidden', async (t) => {
  const rig = stage();
  await heldContainer(rig);
  broken(t, CreationStore.prototype, 'lookedAt');
  const { done, sent } = rig.take('PodSandboxStatus', withId('s1'));
  await passed();
  const ready = encodeMessage('PodSandboxStatusResponse', { status: { id: 's1', state: 'SANDBOX_READY' } });
  await rig.last('PodSandboxStatus').answer(ready);
  await done;
  t.same(sent, [ready, 0]);
  t.same(await faultsIn(rig), { PodSandboxStatus: 1 });
  rig.close();
});

t.test('peers that break the protocol, ask for too much or take nothing are counted and said', async (t) => {
  const { handlers, metrics, lines } = stage();
  handlers.violation?.('downstream', 'a frame that is too large');
  handlers.refused?.('too many taken streams', true);
  handlers.refused?.('too many taken streams', false);
  handlers.stalled?.('downstream', { unwrittenBytes: 7, heldBytes: 9 });
  t.match(lines, [
    { level: 40, peer: 'downstream', reason: 'a frame that is too large', msg: 'connection ended: protocol violation' },
    { level: 40, reason: 'too many taken streams', msg: 'stream refused' },
    { level: 40, peer: 'downstream', unwrittenBytes: 7, heldBytes: 9, msg: 'connection stalled' },
  ]);
  t.equal(lines.length, 3, 'refused streams once');
  const text = await metrics.registry.metrics();
  t.match(text, 'holdfast_protocol_violations_total{peer="downstream"} 1\n');
  t.match(text, 'holdfast_refused_streams_total{reason="too many taken streams"} 2\n');
  t.match(text, 'holdfast_stalled_connections_total{peer="downstream"} 1\n');
});

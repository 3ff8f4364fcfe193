/** What is forwarded as it came, what is looked at and what is taken, and what is told of peers that misbehave. */
import { pino } from 'pino';
import t from 'tap';
import { Metrics } from '../../src/admin/metrics.js';
import { defaults } from '../../src/config/defaults.js';
import { newCore } from '../../src/proxy/core.js';
import type { TakenCall } from '../../src/proxy/taken-call.js';
import type { Upstream, UpstreamAnswer } from '../../src/proxy/upstream.js';
import { encodeMessage } from '../support/cri-client.js';
import { ManualClock, settle } from '../support/manual-clock.js';

const service = '/runtime.v1.RuntimeService';

function stage() {
  const clock = new ManualClock();
  const metrics = new Metrics();
  const lines: Record<string, unknown>[] = [];
  const log = pino({}, { write: (line: string) => lines.push(JSON.parse(line)) });
  /** The runtime's unanswered calls. */
  const asked: { path: string; answer: (message: Buffer) => void }[] = [];
  const upstream: Upstream = {
    unary: (path) =>
      new Promise<UpstreamAnswer>((resolve) => {
        const status = { code: 0, message: '', trailers: [] };
        asked.push({ path, answer: (message) => resolve({ message, initialMetadata: [], status }) });
      }),
    serverStream() {
      throw new Error('no streams here');
    },
    close() {},
  };
  const config = { ...defaults, listen: '', runtime: '' };
  const readPressure = () => ({ avg10: 0, stalledMs: 0 });
  const { handlers, close } = newCore(config, { log, clock, metrics, upstream, readPressure });
  const take = (method: string, request: Buffer) => {
    const leave = new AbortController();
    const sent: unknown[] = [];
    const call: TakenCall = {
      path: `${service}/${method}`,
      metadata: [],
      deadlineMs: undefined,
      request,
      signal: leave.signal,
      keep() {},
      sendInitialMetadata() {},
      async send(message) {
        sent.push(message);
      },
      async end(status) {
        sent.push(status.code);
        return true;
      },
    };
    return { done: handlers.take(call), sent, leave: () => leave.abort('cancelled') };
  };
  const decide = (method: string) => handlers.decide(`${service}/${method}`);
  return { handlers, decide, take, asked, metrics, lines, close };
}

const pod = { metadata: { name: 'web', uid: 'uid', namespace: 'default', attempt: 0 } };
const createContainer = encodeMessage('CreateContainerRequest', {
  pod_sandbox_id: 'sandbox',
  config: { metadata: { name: 'app', attempt: 0 } },
  sandbox_config: pod,
});

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
  const { done, leave } = take('CreateContainer', createContainer);
  for (let turn = 0; turn < 5; turn += 1) await settle();
  t.equal(asked.length, 1);
  t.equal(decide('ListContainers'), 'take');
  t.equal(decide('PodSandboxStatus'), 'take');
  t.equal(decide('ListPodSandbox'), 'pass', 'it tells of no container');
  t.equal(handlers.takesLate?.(), true);
  leave();
  await done;
  asked[0]?.answer(encodeMessage('CreateContainerResponse', { container_id: 'made' }));
  for (let turn = 0; turn < 5; turn += 1) await settle();
  t.equal(decide('ListContainers'), 'take', 'it is hidden');
  close();
});

t.test('calls are counted by method and by what is done with them', async (t) => {
  const { decide, handlers, metrics } = stage();
  for (const method of ['Version', 'Version', 'RunPodSandbox', 'ListContainers']) decide(method);
  handlers.decide('/some.Other/Method');
  const text = await metrics.registry.metrics();
  for (const [method, handling, count] of [
    ['Version', 'passed', 2],
    ['RunPodSandbox', 'taken', 1],
    ['ListContainers', 'passed', 1],
    ['other', 'passed', 1],
  ] as const) {
    const line = text.split('\n').find((each) => each.includes(`"${method}"`) && each.includes(`"${handling}"`));
    t.match(line, new RegExp(` ${count}$`), `${method} ${handling}`);
  }
});

t.test('what makes nothing that can be told apart goes to the runtime as it came', async (t) => {
  for (const [method, request] of [
    ['RunPodSandbox', Buffer.alloc(0)],
    ['CreateContainer', Buffer.from([0x0a, 0xff])],
    ['StartContainer', Buffer.alloc(0)],
    ['UpdateRuntimeConfig', Buffer.from('any')],
  ] as const) {
    const { take, asked } = stage();
    const { done, sent } = take(method, request);
    for (let turn = 0; turn < 5; turn += 1) await settle();
    asked[0]?.answer(Buffer.from('answer'));
    await done;
    t.same(sent, [Buffer.from('answer'), 0], method);
  }
});

t.test('a call that fails inside Holdfast is ended, and said with its path', async (t) => {
  const { take, lines } = stage();
  const { done, sent } = take('GetContainerEvents', Buffer.alloc(0));
  await done;
  t.same(sent, [13]);
  t.match(lines, [
    {
      level: 50,
      path: `${service}/GetContainerEvents`,
      error: 'Error: no streams here',
      msg: 'a taken call failed inside Holdfast',
    },
  ]);
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

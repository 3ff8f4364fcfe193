/**
 * What the built program makes of clients and runtimes that abuse it: others are served all the while, memory stays bounded, and
 * the metrics and the log say what happened. The bounds are in `support/abuse.ts`.
 */
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { connectionPreface, Flag, FrameType, frame, initialSettings, Setting } from '../../src/proxy/http2/frames.js';
import { defaultLimits } from '../../src/proxy/http2/limits.js';
import { data, message, ping, reset, settings, u32 } from '../proxy/http2/wire.js';
import { encodeMessage } from '../support/cri-client.js';
import type { FramePeer } from '../support/frame-peer.js';
import { type Abuse, ended, endure, type Scene, type Seen } from './support/abuse.js';
import { podSandboxRequest } from './support/bystander.js';
import { skipFor } from './support/programs.js';
import type { RawService } from './support/raw-backend.js';
import { body, head, requestBlock, unary } from './support/raw-client.js';
import { until } from './support/until.js';

const skip = skipFor(process.platform === 'linux' ? undefined : 'needs the /proc of Linux');

const KiB = 1024;
const MiB = 1024 * KiB;
/** Of the requests of all connections, and of the queued creations that nobody waits for. */
const [maxRequestBytes, maxAbandonedBytes] = [256 * MiB, 64 * MiB];
const { maxFrameSize } = initialSettings;

const cri = '/runtime.v1.RuntimeService';
const paths = {
  runPodSandbox: `${cri}/RunPodSandbox`,
  createContainer: `${cri}/CreateContainer`,
  stopPodSandbox: `${cri}/StopPodSandbox`,
  listContainers: `${cri}/ListContainers`,
  /** In no proto: passed, and answered with nothing, with 1 MiB, or not at all. */
  small: '/abuse.v1.Service/Small',
  large: '/abuse.v1.Service/Large',
  unanswered: '/abuse.v1.Service/Unanswered',
} as const;

const answers = {
  small: message(''),
  large: message(Buffer.alloc(MiB)),
  list: message(
    encodeMessage('ListContainersResponse', {
      containers: [{ id: 'shown', annotations: { text: 'x'.repeat(256 * KiB) } }],
    }),
  ),
};

let made = 0;
/** A runtime with which nothing is wrong; a container never gets done. */
const healthy: RawService = {
  answer(path) {
    switch (path) {
      case paths.createContainer:
      case paths.unanswered:
        return undefined;
      case paths.runPodSandbox:
        made += 1;
        return message(encodeMessage('RunPodSandboxResponse', { pod_sandbox_id: `sandbox-${made}` }));
      case paths.listContainers:
        return answers.list;
      default:
        return path === paths.large ? answers.large : answers.small;
    }
  },
};

/** No pod sandbox gets done either. */
const hanging: RawService = {
  answer: (path) => (path === paths.runPodSandbox ? undefined : healthy.answer(path)),
};

/** What a runtime does at a call of this path. */
function abusive(path: string, opened: (peer: FramePeer) => void): RawService {
  return { ...healthy, opened: (asked, peer) => asked === path && opened(peer) };
}

const violation = (reason: string): Seen => ({
  series: 'holdfast_protocol_violations_total{peer="downstream"}',
  line: 'connection ended: protocol violation',
  reason,
});
/** Requests that are not whole take all memory: the oldest of them go, or the newcomer, as fast as they come. */
const refusals: Seen = { series: 'holdfast_refused_streams_total', line: 'stream refused' };
const refusal = (reason: string): Seen => ({
  series: `holdfast_refused_streams_total{reason="${reason}"}`,
  line: 'stream refused',
  reason,
});
const calls = (method: string, handling: 'passed' | 'taken'): Seen => ({
  series: `holdfast_calls_total{method="${method}",handling="${handling}"}`,
});
const dropped: Seen = {
  series: 'holdfast_creations_total{kind="podSandbox",outcome="dropped"}',
  line: 'dropped',
  reason: 'nobody waits for',
};

/** Makes a container whose caller does not wait for it, so that lists are taken from then on. */
async function hideContainer(t: Test, { holdfast }: Scene): Promise<void> {
  const request = encodeMessage('CreateContainerRequest', {
    pod_sandbox_id: 'sandbox',
    config: { metadata: { name: 'hidden' } },
    sandbox_config: { metadata: { name: 'hidden', uid: 'hidden', namespace: 'default' } },
  });
  await t.rejects(holdfast.client.callRaw(paths.createContainer, request, { deadlineMs: 200 }));
  await holdfast.logged('it is left', ({ step }) => step === 'waiter left');
}

const repeated = (frames: Buffer, times: number) => Buffer.concat(Array<Buffer>(times).fill(frames));

/** Puts a field of 4,000 bytes into the table and names it with each further byte: 200 KiB that stand for 800 MB. */
function tableBlock(): Buffer {
  const value = Buffer.alloc(3_900, 'v');
  // Literal with incremental indexing and a new name; 3,900 = 127 + 61 + 29 × 128 (RFC 7541 sections 5.1 and 6.2.1).
  const entry = Buffer.concat([Buffer.from([0x40, 1, 0x78, 127, 0x80 | 61, 29]), value]);
  const firstOfTable = 0x80 | 62;
  return Buffer.concat([entry, Buffer.alloc(200 * KiB, firstOfTable)]);
}

/** The first `bytes` of a message of twice as many. */
function halfMessage(streamId: number, bytes: number): Buffer {
  return body(streamId, Buffer.concat([Buffer.from([0]), u32(2 * bytes), Buffer.alloc(bytes - 5)]), false);
}

/**
 * Creations on several connections, each reset once all are queued: one that is reset before that is not begun at all.
 *
 * @param count On each connection.
 * @param more Further fields of the request.
 */
async function resetCreations(scene: Scene, count: number, more: Buffer): Promise<void> {
  const connections = 3;
  // Not the log's lines: of so many some are lost where they are not read at once.
  const open = async () => (await scene.counted('holdfast_queued')) + (await scene.counted('holdfast_admitted'));
  const before = await open();
  const patienceMs = 30_000;
  const resets: (() => Promise<void>)[] = [];
  await scene.clients(connections, async (client) => {
    const ids: number[] = [];
    const creation = (id: number) => {
      ids.push(id);
      return unary(id, blocks.runPodSandbox, Buffer.concat([podSandboxRequest(), more]));
    };
    // All of them, also where a busy machine takes nothing for seconds.
    await client.flood(count, creation, patienceMs);
    resets.push(() => client.peer.written(Buffer.concat(ids.map((id) => reset(id)))));
  });
  await until('they are queued', async () => (await open()) >= before + connections * count, patienceMs);
  await Promise.all(resets.map((send) => send()));
}

/** A runtime that says these frames again and again as soon as it is called, to clients that read them and to some that do not. */
function pouring(name: string, frames: Buffer): Abuse {
  const path = `/abuse.v1.Service/${name}`;
  const block = requestBlock(path);
  const pour = async (peer: FramePeer) => {
    while (!peer.isOver) await peer.written(frames);
  };
  return {
    name: `a runtime that floods with ${name}`,
    runtime: abusive(path, (peer) => void pour(peer)),
    seen: calls('other', 'passed'),
    once: async (scene) => {
      const ask = (reads: boolean) => scene.clients(1, (client) => client.flood(1, (id) => head(id, block)), { reads });
      await Promise.all([ask(true), ask(false), delay(400)]);
    },
  };
}

const blocks = {
  runPodSandbox: requestBlock(paths.runPodSandbox),
  stopPodSandbox: requestBlock(paths.stopPodSandbox),
  listContainers: requestBlock(paths.listContainers),
  large: requestBlock(paths.large),
  unanswered: requestBlock(paths.unanswered),
};
const long = (path: string, bytes: number) => requestBlock(path, { 'x-long': 'v'.repeat(bytes) });
const unread: FramePeer[] = [];

const abuses: readonly Abuse[] = [
  {
    name: 'header lists of 200 KiB of calls that are passed',
    runtime: healthy,
    seen: calls('other', 'passed'),
    once: (scene) => {
      const block = long(paths.small, 200 * KiB);
      return scene.clients(2, (client) => client.flood(100, (id) => head(id, block, true)));
    },
  },
  {
    name: 'header lists of 200 KiB of creations that never begin',
    times: 2,
    runtime: healthy,
    holdsBytes: maxRequestBytes,
    seen: refusals,
    once: (scene) => {
      const block = long(paths.runPodSandbox, 200 * KiB);
      return scene.clients(2, (client) => client.flood(700, (id) => head(id, block)));
    },
  },
  {
    name: 'one table entry named over and over',
    runtime: healthy,
    seen: refusal('header list too large'),
    once: (scene) => {
      const block = tableBlock();
      return scene.clients(2, (client) => client.flood(50, (id) => head(id, block, true)));
    },
  },
  {
    name: 'a header block of 300 KiB',
    runtime: healthy,
    seen: violation('header block of more than'),
    once: (scene) => {
      const block = long(paths.small, 300 * KiB);
      return scene.clients(20, async (client) => {
        await client.flood(1, (id) => head(id, block, true));
        await ended(client);
      });
    },
  },
  ...[Buffer.alloc(0), Buffer.from([0x80 | 8])].map(
    (payload): Abuse => ({
      name: `CONTINUATIONs of ${payload.length} bytes without end`,
      runtime: healthy,
      seen: violation('header block of more than'),
      once: (scene) => {
        const many = repeated(frame(FrameType.continuation, 0, 1, payload), 6_000);
        return scene.clients(20, async (client) => {
          client.peer.write(frame(FrameType.headers, 0, 1, Buffer.alloc(0)));
          await client.flood(10, () => many);
          await ended(client);
        });
      },
    }),
  ),
  {
    name: 'resets of passed streams',
    runtime: healthy,
    seen: calls('other', 'passed'),
    once: (scene) =>
      scene.clients(3, (client) =>
        client.flood(20_000, (id) => Buffer.concat([head(id, blocks.unanswered, true), reset(id)])),
      ),
  },
  {
    name: 'resets of small creations',
    flags: ['--max-creations', '1', '--max-hung', '0', '--max-entries', '500'],
    runtime: hanging,
    creates: false,
    seen: dropped,
    once: (scene) => resetCreations(scene, 3_000, Buffer.alloc(0)),
  },
  {
    name: 'resets of large creations',
    flags: ['--max-creations', '1', '--max-hung', '0'],
    runtime: hanging,
    creates: false,
    // The handler is in the fingerprint too.
    holdsBytes: 2 * maxAbandonedBytes,
    seen: dropped,
    once: (scene) => {
      const more = encodeMessage('RunPodSandboxRequest', { runtime_handler: 'h'.repeat(60_000) });
      return resetCreations(scene, 400, more);
    },
  },
  {
    name: 'a flood of PINGs',
    runtime: healthy,
    seen: violation('too many PINGs'),
    once: (scene) => {
      const many = repeated(ping('floodreq'), 4_000);
      return scene.clients(4, async (client) => {
        await client.flood(200, () => many);
        await ended(client);
      });
    },
  },
  {
    name: 'a flood of SETTINGS',
    runtime: healthy,
    seen: violation('too many SETTINGS'),
    once: (scene) => {
      const many = repeated(settings([Setting.initialWindowSize, 1]), 4_000);
      return scene.clients(20, async (client) => {
        await client.flood(2, () => many);
        await ended(client);
      });
    },
  },
  {
    name: 'lists whose windows stay at zero',
    times: 2,
    runtime: healthy,
    prepare: hideContainer,
    holdsBytes: defaultLimits.unsentAnswerBytes,
    seen: violation('bytes of answers are not taken'),
    once: (scene) =>
      scene.clients(
        1,
        async (client) => {
          await client.flood(4_000, (id) => unary(id, blocks.listContainers));
          await ended(client);
        },
        { window: 0 },
      ),
  },
  {
    name: 'creations whose windows stay at zero',
    flags: ['--max-entries', '1000'],
    runtime: healthy,
    seen: refusal('too many taken streams'),
    once: (scene) =>
      scene.clients(1, (client) => client.flood(6_000, (id) => unary(id, blocks.runPodSandbox, podSandboxRequest())), {
        window: 0,
      }),
  },
  {
    name: 'passed calls whose windows stay at zero',
    runtime: healthy,
    seen: calls('other', 'passed'),
    once: (scene) => scene.clients(2, (client) => client.flood(10_000, (id) => unary(id, blocks.large)), { window: 0 }),
  },
  {
    name: 'more open streams than there may be',
    runtime: healthy,
    seen: violation('open streams'),
    once: (scene) =>
      scene.clients(1, async (client) => {
        await client.flood(defaultLimits.passedStreams + 1, (id) => head(id, blocks.unanswered));
        await ended(client);
      }),
  },
  {
    name: 'large answers of passed calls that are not read',
    runtime: healthy,
    seen: calls('other', 'passed'),
    once: (scene) =>
      scene.clients(4, (client) => client.flood(20_000, (id) => unary(id, blocks.large)), { reads: false }),
  },
  {
    name: 'lists that are not read',
    times: 2,
    runtime: healthy,
    prepare: hideContainer,
    holdsBytes: defaultLimits.unsentAnswerBytes,
    seen: violation('bytes of answers are not taken'),
    once: (scene) =>
      scene.clients(1, (client) => client.flood(1_000, (id) => unary(id, blocks.listContainers)), { reads: false }),
  },
  {
    name: 'small answers of taken calls that are not read',
    runtime: healthy,
    seen: calls('RunPodSandbox', 'taken'),
    once: (scene) => {
      const request = podSandboxRequest();
      return scene.clients(2, (client) => client.flood(8_000, (id) => unary(id, blocks.runPodSandbox, request)), {
        reads: false,
      });
    },
  },
  {
    name: 'a runtime that never reads',
    runtime: abusive(paths.unanswered, (peer) => {
      peer.ignore();
      unread.push(peer);
    }),
    seen: calls('other', 'passed'),
    once: async (scene) => {
      await scene.clients(4, async (client) => {
        await client.flood(1, (id) => head(id, blocks.unanswered));
        await client.flood(20_000, () => data(1, maxFrameSize));
      });
      for (const peer of unread.splice(0)) peer.destroy();
    },
  },
  pouring('PINGs', repeated(ping('floodans'), 4_000)),
  pouring('SETTINGS', repeated(settings([Setting.maxFrameSize, maxFrameSize]), 4_000)),
  pouring('padding', repeated(frame(FrameType.data, Flag.padded, 1, Buffer.alloc(256, 255)), 256)),
  {
    name: 'connections that are silent, half-closed or in the middle of the preface',
    runtime: healthy,
    seen: calls('other', 'passed'),
    once: async (scene) => {
      for (let n = 0; n < 100; n++) {
        const [, halfClosed, half, both] = await Promise.all(
          Array.from({ length: 4 }, () => scene.peer({ allowHalfOpen: true })),
        );
        halfClosed?.end();
        half?.write(connectionPreface.subarray(0, 12));
        both?.write(connectionPreface.subarray(0, 12));
        both?.end();
      }
      await scene.clients(100, async (client) => {
        await client.flood(1, (id) => head(id, blocks.unanswered));
        client.peer.end();
      });
    },
  },
  {
    name: '2,000 connections left open',
    runtime: healthy,
    seen: { series: 'holdfast_evicted_connections_total', line: 'connection evicted' },
    once: async (scene) => {
      for (let n = 0; n < 1_000; n++) {
        await scene.peer();
        await scene.client();
      }
    },
  },
  {
    name: 'creations with half of a message',
    times: 2,
    runtime: healthy,
    holdsBytes: maxRequestBytes,
    seen: refusals,
    once: (scene) =>
      scene.clients(2, (client) =>
        client.flood(2_300, (id) => Buffer.concat([head(id, blocks.runPodSandbox), halfMessage(id, 64 * KiB)])),
      ),
  },
  {
    name: 'observed calls with half of a message',
    times: 2,
    runtime: healthy,
    holdsBytes: maxRequestBytes,
    seen: calls('StopPodSandbox', 'passed'),
    once: (scene) =>
      scene.clients(2, (client) =>
        client.flood(2_300, (id) => Buffer.concat([head(id, blocks.stopPodSandbox), halfMessage(id, 64 * KiB)])),
      ),
  },
];

for (const abuse of abuses) t.test(abuse.name, { skip }, (t) => endure(t, abuse));

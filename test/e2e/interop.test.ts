/** The gRPC libraries that kubelets and runtimes are built on see through Holdfast what they see without it, byte for byte. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { status } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { anyService } from '../support/any-backend.js';
import { type AnyCall, type AnyCalls, type Seen, sha256 } from '../support/any-client.js';
import { encodeMessage, KubeletPod } from '../support/cri-client.js';
import { startHoldfast } from './support/holdfast.js';
import { buildPeers, missingPeers, type Peer } from './support/peers.js';
import { skipFor } from './support/programs.js';

const skip = skipFor(missingPeers());
const KiB = 1024;
const MiB = 1024 * KiB;
const runtimeService = '/runtime.v1.RuntimeService';

/** What differs between two direct calls. */
const varying = ['x-timeout-ms', 'date'];
/** Of a taken call the server sees Holdfast's own, and its client Holdfast's. */
const varyingWhenTaken = [...varying, 'x-agent', 'x-encoding', 'content-type', 'grpc-encoding', 'grpc-accept-encoding'];

// For a slow machine.
t.setTimeout(300_000);

interface Route {
  readonly client: Peer;
  /** The server's socket. */
  readonly direct: string;
  /** Holdfast's, in front of it. */
  readonly holdfast: string;
}

/** Makes calls directly and through Holdfast, and compares what the client saw. @returns Both. */
async function compare(t: Test, { client, direct, holdfast }: Route, calls: AnyCalls, again = calls) {
  const straight = await client.call(direct, calls);
  const through = await client.call(holdfast, again);
  const differing = calls.calls.flatMap((call, n) => {
    const [expected, found] = [comparable(call, straight[n]), comparable(call, through[n])];
    return JSON.stringify(expected) === JSON.stringify(found) ? [] : [{ n, path: call.path, expected, found }];
  });
  t.strictSame(differing.slice(0, 3), [], `${differing.length} of ${calls.calls.length} calls differ`);
  return { straight, through };
}

/** Without what varies; long texts by their digest, metadata in the order of names. */
function comparable(call: AnyCall, seen: Seen | undefined) {
  if (seen === undefined) throw new Error('a call was not made');
  const { messages, code, details, metadata, trailers } = seen;
  // Client and server, in words of their own: whoever notices first.
  if (code === status.DEADLINE_EXCEEDED) return { code };
  const taken = isTaken(call);
  const left = taken ? varyingWhenTaken : varying;
  const readable = (fields: Seen['metadata']) =>
    Object.entries(fields)
      .filter(([name]) => !left.includes(name))
      // grpc-js, over which Holdfast makes calls, joins values of one name.
      .map(([name, values]) => `${name}: ${values.map(short).join(taken ? ', ' : ' | ')}`)
      .sort();
  return {
    messages: messages.map(String),
    code,
    details: short(details),
    metadata: readable(metadata),
    trailers: readable(trailers),
  };
}

function isTaken({ path }: AnyCall): boolean {
  return path === `${runtimeService}/RunPodSandbox`;
}

function short(text: string): string {
  return text.length > 100 ? `${text.length} characters, ${sha256(Buffer.from(text))}` : text;
}

const asked = [
  ['x-asked', 'one value'],
  ['x-asked', 'another'],
  ['x-asked-bin', Buffer.from([0, 255, 10]).toString('base64')],
] as const;
const askedAtLength = [
  ...asked,
  ['x-asked-bin', Buffer.alloc(12_000, 'binary\0').toString('base64')],
  ['x-long', 'yes'],
] as const;
const fail = ['x-fail', 'yes'] as const;

const sizes = [0, 1, 100 * KiB, 5 * MiB];
/** Every shape with messages of all sizes, and what comes back; and every shape with an error at its end. */
const exchanges = [
  ...sizes.map((size) => ({ shape: 'unary', messages: [size], answers: [size], fails: false }) as const),
  { shape: 'clientStream', messages: sizes, answers: [sizes.reduce((sum, size) => sum + size)], fails: false },
  { shape: 'serverStream', messages: [0], answers: [0, 0], fails: false },
  { shape: 'serverStream', messages: [5 * MiB], answers: [5 * MiB, 5 * MiB], fails: false },
  { shape: 'bidi', messages: sizes, answers: sizes, fails: false },
  { shape: 'bidi', messages: [], answers: [], fails: false },
  { shape: 'unary', messages: [1], answers: [], fails: true },
  { shape: 'clientStream', messages: [1, 2], answers: [], fails: true },
  { shape: 'serverStream', messages: [100 * KiB], answers: [100 * KiB, 100 * KiB], fails: true },
  { shape: 'bidi', messages: [1, 100 * KiB], answers: [1, 100 * KiB], fails: true },
] as const;

function exchangeCalls(gzip: boolean): AnyCall[] {
  return exchanges.map(({ shape, messages, fails }) => {
    const metadata: (readonly [string, string])[] = [...askedAtLength];
    if (gzip) metadata.push(['x-gzip', 'yes']);
    if (fails) metadata.push(fail);
    return { path: `${anyService}/${shape}`, shape, messages, metadata };
  });
}

/** A call that its client leaves while the server works on it, and one that is answered when the server has seen that. */
function leaving(how: { readonly cancel: true } | { readonly timeoutMs: number }): AnyCall[] {
  const metadata = [['x-key', crypto.randomUUID()]] as const;
  return [
    { path: `${anyService}/hang`, shape: 'serverStream', messages: [1], metadata, ...how },
    { path: `${anyService}/left`, shape: 'unary', messages: [1], metadata, timeoutMs: 30_000 },
  ];
}

const patienceMs = 60_000;

function timedCalls(): AnyCall[] {
  const patient: AnyCall = { path: `${anyService}/unary`, shape: 'unary', messages: [1], timeoutMs: patienceMs };
  return [patient, ...leaving({ cancel: true }), ...leaving({ timeoutMs: 1000 })];
}

/** One in ten makes a pod sandbox, of few pods that are asked for again and again; one in a hundred fails to. */
function mixedCalls(directory: string, count: number, pods: number): AnyCall[] {
  const run = crypto.randomUUID().slice(0, 8);
  const request = (name: string) => {
    const pod = new KubeletPod({ directory, name, uid: `${run}-${name}` });
    return encodeMessage('RunPodSandboxRequest', pod.runPodSandboxRequest()).toString('base64');
  };
  const others: readonly AnyCall[] = [
    { path: `${runtimeService}/Version`, shape: 'unary', messages: [0] },
    { path: `${anyService}/unary`, shape: 'unary', messages: [20_000] },
    { path: `${anyService}/serverStream`, shape: 'serverStream', messages: [300] },
    { path: `${anyService}/unary`, shape: 'unary', messages: [1], metadata: [...asked, fail] },
    { path: `${anyService}/bidi`, shape: 'bidi', messages: [0, 4000, 1] },
    { path: `${runtimeService}/Version`, shape: 'unary', messages: [70_000] },
  ];
  return Array.from({ length: count }, (_, n): AnyCall => {
    const other = others[n % others.length];
    if (n % 10 < 9 && other !== undefined) return other;
    const fails = n % 100 === 99;
    const messages = [request(fails ? `fails-${n}` : `web-${Math.floor(n / 20) % pods}`)];
    return {
      path: `${runtimeService}/RunPodSandbox`,
      shape: 'unary',
      messages,
      metadata: fails ? [...askedAtLength, fail] : asked,
    };
  });
}

/** Makes calls of `mixedCalls` on one connection, and compares. */
async function compareMixed(t: Test, route: Route, calls: AnyCalls) {
  const { straight, through } = await compare(t, route, calls);
  const expected = calls.calls.map(({ metadata }) => (metadata?.includes(fail) ? status.DATA_LOSS : status.OK));
  t.ok(
    straight.every(({ code }, n) => code === expected[n]),
    'each call is answered',
  );
  // The server is told a deadline in calls that Holdfast makes.
  const made = through.filter(({ metadata }) => metadata['x-timeout-ms'] !== undefined).length;
  t.equal(made, calls.calls.filter((call, n) => isTaken(call) && expected[n] === status.OK).length, 'taken');
}

async function connect(t: Test, directory: string, server: Peer): Promise<Omit<Route, 'client'>> {
  const direct = path.join(directory, `${server.name}.sock`);
  await server.serve(t, direct);
  const { socket } = await startHoldfast(t, { runtime: direct, listen: path.join(directory, `${server.name}-h.sock`) });
  return { direct, holdfast: socket };
}

async function testPair(t: Test, directory: string, server: Peer, route: Route): Promise<void> {
  const { client } = route;
  // grpc-js (nghttp2) refuses the path of a socket there.
  const authority = server.name === 'grpc-js' ? { authority: 'localhost' } : {};
  for (const gzip of [false, true]) {
    const { straight } = await compare(t, route, { ...authority, parallel: 4, gzip, calls: exchangeCalls(gzip) });
    t.strictSame(
      straight.map(({ code, messages }) => ({ code, bytes: messages.map(([bytes]) => bytes) })),
      exchanges.map(({ answers, fails }) => ({
        code: fails ? status.DATA_LOSS : status.OK,
        bytes: fails && client.name === 'grpc-js' ? [] : answers,
      })),
    );
    const [ended] = straight;
    const failed = straight[exchanges.findIndex(({ fails }) => fails)];
    t.ok(ended?.metadata['x-agent']?.[0]?.startsWith(client.agent), `${client.agent} is the client`);
    t.equal(ended?.metadata['x-seen']?.join(', '), 'one value, another');
    t.equal(failed?.details, 'lost: ü%\n'.repeat(100));
    t.ok(Buffer.from(String(failed?.trailers['grpc-status-details-bin']), 'base64').length > 13_000, 'status details');
    if (gzip && server.name === 'grpc-go') t.strictSame(ended?.metadata['x-encoding'], ['gzip']);
    await compareMixed(t, route, { ...authority, parallel: 32, gzip, calls: mixedCalls(directory, 200, 5) });
  }

  const timed = () => ({ ...authority, parallel: 2, calls: timedCalls() });
  const { straight, through } = await compare(t, route, timed(), timed());
  const { OK, CANCELLED, DEADLINE_EXCEEDED } = status;
  t.strictSame(
    straight.map(({ code }) => code),
    [OK, CANCELLED, OK, DEADLINE_EXCEEDED, OK],
  );
  for (const [patient] of [straight, through]) {
    const leftMs = Number(patient?.metadata['x-timeout-ms']?.[0]);
    t.ok(leftMs > patienceMs / 2 && leftMs < patienceMs * 1.02, `${leftMs} of ${patienceMs} ms are left`);
  }
}

t.test('gRPC libraries', { skip }, async (t) => {
  const directory = mkdtempSync(path.join(tmpdir(), 'hf-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const peers = await buildPeers(directory);
  for (const server of Object.values(peers)) {
    await t.test(`with ${server.name} as the server`, async (t) => {
      const sockets = await connect(t, directory, server);
      for (const client of Object.values(peers)) {
        await t.test(`${client.name} sees what it sees directly`, (t) =>
          testPair(t, directory, server, { client, ...sockets }),
        );
      }
    });
  }

  await t.test('a server that refuses the path of a socket as :authority refuses it through Holdfast', async (t) => {
    const sockets = await connect(t, directory, peers.grpcJs);
    const { straight } = await compare(
      t,
      { client: peers.grpcGo, ...sockets },
      {
        parallel: 1,
        calls: [{ path: `${anyService}/unary`, shape: 'unary', messages: [1] }],
      },
    );
    t.match(straight, [{ code: status.INTERNAL, details: /PROTOCOL_ERROR/ }]);
  });

  for (const [client, parallel] of [
    [peers.grpcGo, 100],
    [peers.grpcJs, 32],
  ] as const) {
    await t.test(`10,000 calls of ${client.name} on one connection, one in ten taken`, async (t) => {
      const sockets = await connect(t, directory, peers.grpcGo);
      const calls = mixedCalls(directory, 10_000, 100);
      await compareMixed(t, { client, ...sockets }, { parallel, calls });
    });
  }
});

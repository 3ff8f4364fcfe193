import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import t from 'tap';
import type { Made } from '../../src/cache/creation-runtime.js';
import { CreationStore } from '../../src/cache/creation-store.js';
import { fingerprintContainer } from '../../src/cache/fingerprint.js';
import { encodeMessage } from '../support/cri-client.js';
import { ManualClock, settle } from '../support/manual-clock.js';
import { plainAdmission } from '../support/plain-admission.js';
import { TestGuard, TestRuntime } from './store-rig.js';

setFlagsFromString('--expose-gc');
const collectGarbage: () => void = runInNewContext('gc');

async function usedBytes(): Promise<number> {
  for (let turns = 0; turns < 3; turns += 1) {
    await settle();
    collectGarbage();
  }
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

/** About what a kubelet sends for a container of a pod with a dozen services. */
function request(n: number): Buffer {
  const uid = `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`;
  return encodeMessage('CreateContainerRequest', {
    pod_sandbox_id: String(n).padStart(64, 'a'),
    config: {
      metadata: { name: 'app', attempt: 0 },
      image: { image: 'sha256:'.padEnd(71, '7') },
      envs: Array.from({ length: 25 }, (_, i) => ({
        key: `SERVICE_${i}_PORT_443_TCP_ADDR`,
        value: Buffer.from('10.0.0.1'),
      })),
      mounts: Array.from({ length: 12 }, (_, i) => ({
        container_path: `/mnt/${i}`,
        host_path: `/var/lib/${uid}/${i}`,
      })),
      labels: Object.fromEntries(Array.from({ length: 6 }, (_, i) => [`label-${i}`, uid])),
      annotations: Object.fromEntries(Array.from({ length: 6 }, (_, i) => [`annotation-${i}`, `${n}`])),
      log_path: 'app/0.log',
    },
    sandbox_config: {
      metadata: { name: `pod-${n}`, namespace: 'default', uid },
      log_directory: `/var/log/pods/default_pod-${n}_${uid}`,
      labels: Object.fromEntries(Array.from({ length: 6 }, (_, i) => [`label-${i}`, uid])),
    },
  });
}

t.test('10,000 remembered entries cost under 40 MB', async (t) => {
  const runtime = new TestRuntime<Buffer>();
  runtime.create = async (): Promise<Made<Buffer>> => {
    made += 1;
    return { id: String(made).padStart(64, 'c'), answer: Buffer.alloc(66) };
  };
  let made = 0;
  const observer = { step: () => {}, revealed: () => {}, vanished: () => {}, faulted: () => {} };
  const ttl = {
    creationTimeoutMs: 900_000,
    holdTtlMs: 900_000,
    replayTtlMs: 900_000,
    wedgeAfterMs: 120_000,
    maxEntries: 10_000,
  };
  const clock = new ManualClock();
  const store = new CreationStore<string, Buffer>(
    runtime,
    new TestGuard(),
    plainAdmission(16, clock),
    clock,
    observer,
    {
      ...ttl,
      onDrift: 'keep',
      onAttemptBump: 'join',
    },
  );
  const never = new AbortController().signal;
  const remember = async (n: number) => {
    const bytes = request(n);
    const fingerprint = fingerprintContainer(bytes, { volatileAnnotations: new Set() });
    if (fingerprint === undefined) throw new Error('not a creation');
    (await store.request({ fingerprint, bytes, origin: 'test' }, never)).settle(true);
  };
  for (let n = 0; n < 500; n++) await remember(n);
  const before = await usedBytes();
  for (let n = 500; n < 10_000; n++) await remember(n);
  const bytesEach = ((await usedBytes()) - before) / 9_500;
  t.equal(store.census.sizes.answered, 10_000);
  t.ok(bytesEach * 10_000 < 40e6, `${Math.round(bytesEach)} bytes each`);
  t.comment(`${Math.round(bytesEach)} bytes each`);
});

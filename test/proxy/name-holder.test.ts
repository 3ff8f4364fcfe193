/** Who has a name, of a table of pod sandboxes and containers as a runtime lists them. */
import t from 'tap';
import type { NameHolder } from '../../src/cache/creation-runtime.js';
import { type Fingerprint, fingerprintContainer, fingerprintPodSandbox } from '../../src/cache/fingerprint.js';
import { NameHolders, wasUsed } from '../../src/proxy/name-holder.js';
import {
  type CallLimits,
  type ListedContainer,
  type ListedPodSandbox,
  type Origin,
  write,
} from '../../src/proxy/own-calls.js';

const states = { created: 0, running: 1, exited: 2, unknown: 3 } as const;
const origin: Origin = { path: '/runtime.v1.RuntimeService/CreateContainer', metadata: [] };
const limits: CallLimits = { timeoutMs: 1_234, signal: new AbortController().signal };
const volatileAnnotations = new Set(['seen']);

const pod = { namespace: 'default', name: 'web-0', uid: 'uid-1', attempt: 2 };
const labels = {
  'io.kubernetes.pod.namespace': 'default',
  'io.kubernetes.pod.name': 'web-0',
  'io.kubernetes.pod.uid': 'uid-1',
};

/** What a runtime has, with others in front: no answer is right because it is the only one. */
interface Table {
  readonly podSandboxes?: readonly Partial<ListedPodSandbox>[];
  readonly containers?: readonly Partial<ListedContainer>[];
  /** Pod sandboxes that are not ready. */
  readonly down?: readonly string[];
}

const otherPodSandbox: ListedPodSandbox = { id: 'other', state: 0, metadata: { ...pod, name: 'other' } };
const ownPodSandbox: ListedPodSandbox = { id: 'own', state: 0, metadata: pod };
const otherContainer: ListedContainer = {
  id: 'other',
  pod_sandbox_id: 'other',
  metadata: { name: 'other', attempt: 0 },
  image: { image: 'other' },
  state: states.running,
  labels: {},
  annotations: {},
};
const ownContainer: ListedContainer = {
  id: 'own',
  pod_sandbox_id: 'pod',
  metadata: { name: 'app', attempt: 3 },
  image: { image: 'nginx' },
  state: states.created,
  labels,
  annotations: { hash: 'abc' },
};

/** A call without the origin and the limits that `find` was given fails, as does one that was made before. */
function holders({ podSandboxes = [], containers = [], down = [] }: Table): NameHolders {
  const made = new Set<string>();
  const check = (call: string, from: Origin, within?: CallLimits) => {
    if (from !== origin || within !== limits) throw new Error(`${call} is not as it was asked for`);
    if (made.has(call)) throw new Error(`${call} has been asked for before`);
    made.add(call);
  };
  const allPodSandboxes = [otherPodSandbox, ...podSandboxes.map((each) => ({ ...ownPodSandbox, ...each }))];
  const allContainers = [otherContainer, ...containers.map((each) => ({ ...ownContainer, ...each }))];
  return new NameHolders(
    {
      async podSandboxes(from, filter = {}, within) {
        check(`podSandboxes ${JSON.stringify(filter)}`, from, within);
        const { id } = filter as { id?: string };
        return allPodSandboxes.filter((each) => id === undefined || each.id === id);
      },
      async containers(from, filter = {}, within) {
        check(`containers ${JSON.stringify(filter)}`, from, within);
        const { id, pod_sandbox_id: inside } = filter as { id?: string; pod_sandbox_id?: string };
        return allContainers.filter(
          (each) => (id === undefined || each.id === id) && (inside === undefined || each.pod_sandbox_id === inside),
        );
      },
      async isReady(id, from, within) {
        check(`isReady ${id}`, from, within);
        return !down.includes(id);
      },
    },
    volatileAnnotations,
  );
}

function known<F extends Fingerprint>(fingerprint: F | undefined): F {
  if (fingerprint === undefined) throw new Error('no fingerprint');
  return fingerprint;
}

function ofPodSandbox(table: Table, holderId?: string): Promise<NameHolder> {
  const bytes = write('RunPodSandboxRequest', { config: { metadata: pod } });
  const fingerprint = known(fingerprintPodSandbox(bytes, { volatileAnnotations }));
  return holders(table).find({ fingerprint, bytes, origin, holderId }, limits);
}

const config = {
  metadata: { name: 'app', attempt: 3 },
  image: { image: 'nginx' },
  labels,
  annotations: { hash: 'abc' },
};

/**
 * @param changed Of the request's container config.
 * @param bytes What is compared, instead of the request.
 */
function ofContainer(table: Table, holderId?: string, changed: object = {}, bytes?: Buffer): Promise<NameHolder> {
  const message = { pod_sandbox_id: 'pod', config: { ...config, ...changed }, sandbox_config: { metadata: pod } };
  const request = write('CreateContainerRequest', message);
  const fingerprint = known(fingerprintContainer(request, { volatileAnnotations }));
  return holders(table).find({ fingerprint, bytes: bytes ?? request, origin, holderId }, limits);
}

const fits = { condition: 'fits', id: 'own' };
const unseen = (id?: string) => ({ condition: 'unseen', id });
const unusable = { condition: 'unusable', id: 'own', podSandboxId: 'pod' };

t.test('a pod sandbox that is ready fits, by the id of the holder or without it', async (t) => {
  t.strictSame(await ofPodSandbox({ podSandboxes: [{}] }, 'own'), fits);
  t.strictSame(await ofPodSandbox({ podSandboxes: [{}] }), fits);
});

t.test('what nobody lists is unseen, by the id of the holder', async (t) => {
  t.strictSame(await ofPodSandbox({}), unseen());
  t.strictSame(await ofContainer({}), unseen());
  const table = { podSandboxes: [{}], containers: [{}] };
  t.strictSame(await ofPodSandbox(table, 'not there yet'), unseen('not there yet'), 'though another one is it');
  t.strictSame(await ofContainer(table, 'not there yet'), unseen('not there yet'), 'though another one is it');
});

t.test('a holder that is something else counts as little as no id: what is it is looked for among all', async (t) => {
  t.strictSame(await ofPodSandbox({ podSandboxes: [{}] }, 'other'), fits);
  t.strictSame(await ofPodSandbox({}, 'other'), unseen('other'));
  t.strictSame(await ofContainer({ containers: [{}] }, 'other'), fits);
  t.strictSame(await ofContainer({}, 'other'), unseen('other'));
});

t.test('of two that are it the holder is meant', async (t) => {
  const two = [{ id: 'first' }, {}];
  t.strictSame(await ofPodSandbox({ podSandboxes: two }, 'own'), fits);
  t.strictSame(await ofContainer({ containers: two }, 'own'), fits);
});

t.test('a pod sandbox of another pod or attempt is not it', async (t) => {
  const others = [{ namespace: 'kube-system' }, { name: 'web-1' }, { uid: 'uid-2' }, { attempt: 1 }];
  for (const other of others) {
    const table = { podSandboxes: [{ metadata: { ...pod, ...other } }] };
    t.strictSame(await ofPodSandbox(table), unseen(), JSON.stringify(other));
    t.strictSame(await ofPodSandbox(table, 'own'), unseen('own'), `${JSON.stringify(other)}, by its id`);
  }
  t.strictSame(await ofPodSandbox({ podSandboxes: [{ metadata: null }] }, 'own'), unseen('own'), 'nor one of no pod');
});

t.test('a pod sandbox that is not ready is in use where a container in it was used, else unusable', async (t) => {
  const podSandboxes = [{ state: 1 }];
  const inside = { pod_sandbox_id: 'own' };
  t.strictSame(await ofPodSandbox({ podSandboxes }), { condition: 'unusable', id: 'own' });
  for (const [state, condition] of [
    ['created', 'unusable'],
    ['running', 'in use'],
    ['exited', 'in use'],
    ['unknown', 'in use'],
  ] as const) {
    const containers = [
      { ...inside, state: states.created },
      { ...inside, state: states[state] },
    ];
    t.strictSame(await ofPodSandbox({ podSandboxes, containers }), { condition, id: 'own' }, state);
    t.equal(wasUsed({ state: states[state] }), condition === 'in use', state);
  }
});

t.test('a container that was made and no more fits, by the id of the holder or without it', async (t) => {
  t.strictSame(await ofContainer({ containers: [{}] }, 'own'), fits);
  t.strictSame(await ofContainer({ containers: [{}] }), fits);
});

t.test('a container that was started is in use, whatever else it is', async (t) => {
  for (const state of [states.running, states.exited, states.unknown]) {
    const table = { containers: [{ state, image: null, annotations: {} }], down: ['pod'] };
    t.strictSame(await ofContainer(table), { condition: 'in use', id: 'own' });
  }
});

t.test('a container of another name or attempt is not it, though it is in the pod sandbox', async (t) => {
  for (const metadata of [{ name: 'sidecar', attempt: 3 }, { name: 'app', attempt: 2 }, null]) {
    t.strictSame(await ofContainer({ containers: [{ metadata }] }), unseen());
    t.strictSame(await ofContainer({ containers: [{ metadata }] }, 'own'), unseen('own'), 'not by its id either');
  }
});

t.test(
  'a container in another pod sandbox is it where its labels say that it is of the pod, and does not fit',
  async (t) => {
    const elsewhere = { pod_sandbox_id: 'pod before' };
    t.strictSame(await ofContainer({ containers: [elsewhere] }), { ...unusable, podSandboxId: 'pod before' });
    for (const label of Object.keys(labels)) {
      const other = { ...elsewhere, labels: { ...labels, [label]: 'another' } };
      t.strictSame(await ofContainer({ containers: [other] }), unseen(), `not with another ${label}`);
    }
    t.strictSame(await ofContainer({ containers: [{ ...elsewhere, labels: {} }] }), unseen(), 'nor without labels');
  },
);

t.test('a container in the pod sandbox is it without a label, though it does not fit', async (t) => {
  t.strictSame(await ofContainer({ containers: [{ labels: {} }] }), unusable);
});

t.test('a container fits in a pod sandbox that is ready only', async (t) => {
  t.strictSame(await ofContainer({ containers: [{}], down: ['pod'] }), unusable);
});

t.test('a container of another image is unusable, as is one of none', async (t) => {
  t.strictSame(await ofContainer({ containers: [{ image: { image: 'nginx:2' } }] }), unusable);
  t.strictSame(await ofContainer({ containers: [{ image: null }] }), unusable);
  t.strictSame(await ofContainer({ containers: [{}] }, undefined, { image: null }), unusable);
});

t.test('a container has each label and annotation it was asked for with; what a runtime adds is nothing', async (t) => {
  const more = { labels: { ...labels, added: 'x' }, annotations: { ...ownContainer.annotations, added: 'x' } };
  t.strictSame(await ofContainer({ containers: [more] }), fits);
  for (const annotations of [{ hash: 'abcd' }, {}, { abc: 'hash' }]) {
    t.strictSame(await ofContainer({ containers: [{ annotations }] }), unusable, JSON.stringify(annotations));
  }
  const asked = { labels: { ...labels, tier: 'web' } };
  t.strictSame(await ofContainer({ containers: [{ labels: asked.labels }] }, undefined, asked), fits);
  t.strictSame(await ofContainer({ containers: [{}] }, undefined, asked), unusable);
});

t.test('a request that says nothing of a container fits none', async (t) => {
  t.strictSame(await ofContainer({ containers: [{}] }, undefined, undefined, Buffer.alloc(0)), unusable);
});

t.test(
  'an annotation that differs from try to try may be another one or missing, a label of that name may not',
  async (t) => {
    const annotations = { hash: 'abc', seen: '12:00' };
    const asked = { annotations };
    t.strictSame(
      await ofContainer({ containers: [{ annotations: { ...annotations, seen: '11:59' } }] }, undefined, asked),
      fits,
    );
    t.strictSame(await ofContainer({ containers: [{}] }, undefined, asked), fits);
    t.strictSame(await ofContainer({ containers: [{ annotations: { seen: '12:00' } }] }, undefined, asked), unusable);
    const seen = { labels: { ...labels, seen: '12:00' } };
    t.strictSame(
      await ofContainer({ containers: [{ labels: { ...labels, seen: '11:59' } }] }, undefined, seen),
      unusable,
    );
  },
);

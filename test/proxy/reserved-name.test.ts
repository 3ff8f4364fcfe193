import t from 'tap';
import { reservation } from '../../src/proxy/reserved-name.js';

const unknown = 2;
const deadlineExceeded = 4;
const alreadyExists = 6;
const failedPrecondition = 9;
const cancelled = 1;
const internal = 13;

const id = '925124eca7d7a2e654614599797b4fa58474e3dfafce120cb13866139bf8dbf8';
const pod = 'web-0_default_5873cbd9-8583-4798-9f66-3d7d3fe8e392_0';
const container = `app_${pod}`;
const stalled = 'kubelet may be retrying requests that are timing out in CRI-O due to system load. Currently at stage';
const formerly = 'Kubelet may be retrying requests that are timing out in CRI-O due to system load';
const crioPod = `error reserving pod name k8s_${pod} for id ${id}: name is reserved`;
const crioContainer = `error reserving ctr name k8s_${container} for id ${id}: name is reserved`;
const ready = 'is now ready and will be provided to the kubelet on next retry';

interface Answer {
  readonly from: string;
  readonly code: number;
  readonly text: string;
  readonly holderId?: string;
}

const reserved: readonly Answer[] = [
  {
    from: 'containerd 1.6 and 1.7, pod sandbox',
    code: unknown,
    text: `failed to reserve sandbox name "${pod}": name "${pod}" is reserved for "${id}"`,
    holderId: id,
  },
  {
    from: 'containerd 1.6 and 1.7, container',
    code: unknown,
    text: `failed to reserve container name "${container}": name "${container}" is reserved for "${id}"`,
    holderId: id,
  },
  {
    from: 'containerd 2.1.9, pod sandbox',
    code: failedPrecondition,
    text: `failed to reserve sandbox name "${pod}": name "${pod}" is reserved for "${id}"`,
    holderId: id,
  },
  {
    from: 'containerd 2.1.9, container',
    code: failedPrecondition,
    text:
      `failed to reserve container name "${container}"; check if another CreateContainer request is in progress: ` +
      `name "${container}" is reserved for "${id}"`,
    holderId: id,
  },
  {
    from: 'a containerd with a code of its own',
    code: alreadyExists,
    text: `failed to reserve sandbox name "${pod}": name "${pod}" is reserved for "${id}"`,
    holderId: id,
  },
  {
    from: 'containerd, of a name with quotes in it',
    code: unknown,
    text: String.raw`failed to reserve sandbox name "a\"b\\_n_u_0": name "a\"b\\_n_u_0" is reserved for "${id}"`,
    holderId: id,
  },
  { from: 'CRI-O 1.17, pod sandbox', code: unknown, text: crioPod },
  { from: 'CRI-O 1.17, container', code: unknown, text: crioContainer },
  { from: 'CRI-O 1.18, pod sandbox', code: unknown, text: `reserving pod sandbox name: ${crioPod}` },
  { from: 'CRI-O 1.18, container', code: unknown, text: `reserving container name: ${crioContainer}` },
  { from: 'CRI-O 1.19, container', code: unknown, text: `${formerly}: ${crioContainer}` },
  { from: 'CRI-O 1.20, deadline', code: unknown, text: `${formerly}: context deadline exceeded: ${crioPod}` },
  {
    from: 'CRI-O 1.36.3, deadline',
    code: deadlineExceeded,
    text: `${stalled} sandbox network creation: context deadline exceeded: ${crioPod}`,
  },
  {
    from: 'CRI-O, cancelled',
    code: cancelled,
    text: `${stalled} container storage creation: context canceled: ${crioContainer}`,
  },
  {
    from: 'CRI-O, waited long',
    code: unknown,
    text: `${stalled} unknown: waited too long for request to timeout or sandbox k8s_${pod} to be created: ${crioPod}`,
  },
  {
    from: 'CRI-O 1.36.3, a pod sandbox that is ready',
    code: unknown,
    text: `${stalled} sandbox network creation: the requested sandbox k8s_${pod} ${ready}: ${crioPod}`,
  },
  {
    from: 'CRI-O, a container that is ready',
    code: deadlineExceeded,
    text: `${stalled} container runtime creation: the requested container k8s_${container} ${ready}: ${crioContainer}`,
  },
  {
    from: 'CRI-O, in few words',
    code: unknown,
    text: `${stalled} unknown: context deadline exceeded: name is reserved`,
  },
  {
    from: 'CRI-O, restoring a container',
    code: unknown,
    text: `k${formerly.slice(1)}: ${crioContainer}`,
  },
  {
    from: 'CRI-O, a pod sandbox that is being cleaned up',
    code: unknown,
    text: `error attempting to watch for sandbox k8s_${pod}: no longer found: ${crioPod}`,
  },
  {
    from: 'CRI-O, a container that is being cleaned up',
    code: unknown,
    text: `error attempting to watch for container k8s_${container}: no longer found: ${crioContainer}`,
  },
  {
    from: 'CRI-O, a pod sandbox that was cleaned up this moment',
    code: unknown,
    text:
      `failed to get ID of pod with reserved name (k8s_${pod}), after failing to reserve name with ` +
      'name is not reserved: name is not reserved',
  },
  {
    from: 'CRI-O 1.22, a container that was cleaned up this moment',
    code: unknown,
    text:
      `Failed to get ID of container with reserved name (k8s_${container}), after failing to reserve name with ` +
      'name is not reserved: name is not reserved',
  },
];

for (const { from, code, text, holderId } of reserved) {
  t.test(`${from}: the name is reserved`, async (t) => {
    t.strictSame(reservation({ code, message: text }), { holderId });
  });
}

const others: readonly Answer[] = [
  { from: 'success', code: 0, text: crioPod },
  { from: 'nothing but a code', code: alreadyExists, text: '' },
  {
    from: 'a snapshot that is there already',
    code: alreadyExists,
    text: `failed to create containerd container: snapshot "${id}": already exists`,
  },
  {
    from: 'a failed start-up of containerd',
    code: internal,
    text: `failed to reserve sandbox name "${pod}": invalid name "" or key ""`,
  },
  {
    from: 'names that differ',
    code: unknown,
    text: `failed to reserve sandbox name "${pod}": name "another" is reserved for "${id}"`,
  },
  {
    from: 'an id that is taken',
    code: unknown,
    text: `failed to reserve sandbox name "${pod}": key "${id}" is reserved for "another"`,
  },
  {
    from: 'words behind it',
    code: unknown,
    text: `failed to reserve sandbox name "${pod}": name "${pod}" is reserved for "${id}": no such file`,
  },
  {
    from: 'a name that quotes it all',
    code: unknown,
    text: `failed to setup network for sandbox "x": pod "failed to reserve sandbox name \\"a\\": name \\"a\\" is reserved for \\"b\\""`,
  },
  {
    from: 'containerd’s words behind others',
    code: unknown,
    text: `failed to stat /failed to reserve sandbox name "${pod}": name "${pod}" is reserved for "${id}"`,
  },
  {
    from: 'CRI-O’s words behind others',
    code: unknown,
    text: `creating mount /error attempting to watch for sandbox k8s_${pod}: no longer found: ${crioPod}`,
  },
  {
    from: 'CRI-O’s words of its load behind others',
    code: unknown,
    text: `creating mount /${stalled} unknown: context deadline exceeded: ${crioPod}`,
  },
  {
    from: 'CRI-O’s words of a name that was cleaned up behind others',
    code: unknown,
    text:
      `creating mount /failed to get ID of pod with reserved name (k8s_${pod}), after failing to reserve name with ` +
      'name is not reserved: name is not reserved',
  },
  {
    from: 'another name that is reserved',
    code: unknown,
    text: `error attempting to watch for sandbox k8s_${pod}: hostname is reserved`,
  },
  {
    from: 'a path that says it',
    code: unknown,
    text: `failed to generate container spec: failed to stat "/v/name "${pod}" is reserved for "${id}"`,
  },
  {
    from: 'a mount that ends in CRI-O’s words',
    code: unknown,
    text: `creating mount /srv/${crioPod}`,
  },
  {
    from: 'a hostname with the word in it',
    code: unknown,
    text: 'failed to create sandbox: set hostname "ip-is-reserved": name is reserved-1: invalid argument',
  },
  {
    from: 'an image’s name',
    code: unknown,
    text:
      'Invalid docker-daemon: reference sha256:a: The sha256 repository name is reserved for (non-shortened) digest ' +
      'references',
  },
  { from: 'the words alone', code: unknown, text: 'name is reserved' },
  {
    from: 'CRI-O under load, for another reason',
    code: unknown,
    text: `${stalled} sandbox creating: context deadline exceeded`,
  },
  {
    from: 'CRI-O’s words in the name of a stage that an image’s path ends',
    code: unknown,
    text: `kubelet may be retrying: pulling image /${crioPod}: denied`,
  },
  {
    from: 'another failure of CRI-O’s registrar',
    code: unknown,
    text: `failed to get ID of pod with reserved name (k8s_${pod}), after failing to reserve name with x: x`,
  },
  { from: 'a lost connection', code: 14, text: 'connection reset: name is reserved' },
];

for (const { from, code, text } of others) {
  t.test(`${from}: nothing is said of a reserved name`, async (t) => {
    t.equal(reservation({ code, message: text }), undefined);
  });
}

t.test('a text of a megabyte is told in a moment', async (t) => {
  const name = '\\"'.repeat(500_000);
  const began = performance.now();
  t.equal(
    reservation({ code: unknown, message: `failed to reserve sandbox name "${name}": name "${name}x` }),
    undefined,
  );
  t.equal(reservation({ code: unknown, message: `${formerly}: ${': name is reserved '.repeat(50_000)}` }), undefined);
  t.equal(
    reservation({ code: unknown, message: `error reserving pod name ${' for id a'.repeat(100_000)}` }),
    undefined,
  );
  const watch = 'error attempting to watch for sandbox ';
  t.equal(reservation({ code: unknown, message: watch + ': no longer found: '.repeat(50_000) }), undefined);
  t.ok(performance.now() - began < 5_000);
});

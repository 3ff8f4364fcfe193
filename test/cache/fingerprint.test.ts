import t from 'tap';
import {
  containerFamily,
  containerOf,
  driftOf,
  fingerprintContainer,
  fingerprintPodSandbox,
  hasDrifted,
  resourcesAskedFor,
} from '../../src/cache/fingerprint.js';
import { FieldCursor } from '../../src/cri/wire.js';
import {
  bytesField,
  changed,
  containerRequest,
  encode,
  type Fields,
  many,
  options,
  original,
  podSandboxRequest,
  printed,
  tooMany,
} from './requests.js';

const ofContainer = (bytes: Buffer) => printed(fingerprintContainer(bytes, options));
const ofPodSandbox = (bytes: Buffer) => printed(fingerprintPodSandbox(bytes, options));

function containerDrift(change: (request: ReturnType<typeof containerRequest>) => void): string[] {
  return driftOf(ofContainer(original).parts, ofContainer(changed(change)).parts);
}

for (const type of ['RunPodSandboxRequest', 'CreateContainerRequest'] as const) {
  t.test(`${type}: a request cut anywhere but between two fields has no fingerprint`, async (t) => {
    const request = type === 'RunPodSandboxRequest' ? podSandboxRequest() : containerRequest();
    const bytes = encode(type, request);
    const ends = new Set<number>();
    const cursor = new FieldCursor(bytes);
    while (cursor.next()) ends.add(cursor.end);
    const read = type === 'RunPodSandboxRequest' ? fingerprintPodSandbox : fingerprintContainer;
    const wrong: number[] = [];
    for (let length = 0; length < bytes.length; length++) {
      if (!ends.has(length) && read(bytes.subarray(0, length), options) !== undefined) wrong.push(length);
    }
    t.strictSame(wrong, []);
  });
}

t.test('a container request tells identity and details', async (t) => {
  const print = ofContainer(original);
  t.match(print, {
    kind: 'container',
    identity: { kind: 'container', namespace: 'shop', name: 'web', uid: 'u1', container: 'main', attempt: 0 },
    podSandboxId: 'p1',
    specHash: '9f8e7d6c',
    logPath: 'main/0.log',
    logDirectory: '/var/log/pods/shop_web_u1',
    isStatic: false,
  });
  t.match(print.digest, /^[0-9a-f]{64}$/);
  t.equal(print.family, containerFamily(print.identity));
});

t.test('a pod sandbox request tells identity and details', async (t) => {
  const request = podSandboxRequest();
  request.config.annotations['kubernetes.io/config.source'] = 'file';
  t.match(ofPodSandbox(encode('RunPodSandboxRequest', request)), {
    kind: 'podSandbox',
    identity: { kind: 'podSandbox', namespace: 'shop', name: 'web', uid: 'u1', attempt: 2 },
    runtimeHandler: 'runc',
    logDirectory: '/var/log/pods/shop_web_u1',
    isStatic: true,
  });
});

t.test('a request without its full identity has no fingerprint', async (t) => {
  const incomplete: [string, (request: ReturnType<typeof containerRequest>) => void][] = [
    ['container name', ({ config }) => delete config.metadata.name],
    ['pod name', ({ sandbox_config }) => Object.assign(sandbox_config.metadata, { name: '' })],
    ['pod namespace', ({ sandbox_config }) => Object.assign(sandbox_config.metadata, { namespace: '' })],
    ['pod uid', ({ sandbox_config }) => Object.assign(sandbox_config.metadata, { uid: '' })],
    ['pod sandbox id', (request) => Object.assign(request, { pod_sandbox_id: '' })],
  ];
  for (const [what, remove] of incomplete) {
    const bytes = changed(remove);
    t.equal(fingerprintContainer(bytes, options), undefined, `container without ${what}`);
    if (!what.startsWith('pod ') || what === 'pod sandbox id') continue;
    const request = containerRequest();
    remove(request);
    const sandbox = encode('RunPodSandboxRequest', { config: request.sandbox_config });
    t.equal(fingerprintPodSandbox(sandbox, options), undefined, `pod sandbox without ${what}`);
  }
  t.equal(fingerprintContainer(Buffer.alloc(0), options), undefined);
  t.equal(fingerprintPodSandbox(Buffer.alloc(0), options), undefined);
});

t.test('names that are not UTF-8 have no fingerprint, since they would all read the same', async (t) => {
  const metadata = (uid: string) =>
    Buffer.concat([bytesField(1, 'web'), bytesField(2, Buffer.from(uid, 'hex')), bytesField(3, 'shop')]);
  const request = (uid: string) => bytesField(1, bytesField(1, metadata(uid)));
  t.ok(fingerprintPodSandbox(request('7531'), options));
  t.equal(fingerprintPodSandbox(request('ff'), options), undefined);
});

t.test('a container asks for its resources, a pod sandbox for none', async (t) => {
  const limited = ofContainer(
    changed(({ config }) => {
      config.linux = { resources: { cpu_shares: 512 } };
    }),
  );
  t.match(resourcesAskedFor(limited), /^.+$/);
  t.equal(resourcesAskedFor(limited), limited.resources);
  t.equal(resourcesAskedFor(ofPodSandbox(encode('RunPodSandboxRequest', podSandboxRequest()))), '');
});

t.test('resources are told apart by what they mean', async (t) => {
  const resources = (linux: Fields | undefined, windows?: Fields) =>
    ofContainer(
      changed(({ config }) => {
        config.linux = linux === undefined ? {} : { resources: linux };
        if (windows !== undefined) config.windows = { resources: windows };
      }),
    ).resources;
  const base = resources({ cpu_shares: 512, memory_limit_in_bytes: 64, unified: { a: '1', b: '2' } });
  t.match(base, /^[0-9a-f]{16}$/);
  t.equal(resources({ unified: { b: '2', a: '1' }, memory_limit_in_bytes: 64, cpu_shares: 512 }), base);
  t.equal(resources({ cpu_shares: 512, memory_limit_in_bytes: 64, unified: { a: '1', b: '2' }, cpu_quota: 0 }), base);
  for (const cpuset of [{ cpuset_cpus: '0-3' }, { cpuset_mems: '0' }]) {
    t.equal(resources({ cpu_shares: 512, memory_limit_in_bytes: 64, unified: { a: '1', b: '2' }, ...cpuset }), base);
  }
  const page = (page_size: string, limit: number) => ({ page_size, limit });
  t.equal(
    resources({ hugepage_limits: [page('2Mi', 1), page('1Gi', 2)] }),
    resources({ hugepage_limits: [page('1Gi', 2), page('2Mi', 1)] }),
  );
  const different = [
    base,
    resources({ cpu_shares: 512, memory_limit_in_bytes: 65, unified: { a: '1', b: '2' } }),
    resources({ cpu_shares: 513, memory_limit_in_bytes: 64, unified: { a: '1', b: '2' } }),
    resources({ cpu_shares: 512, memory_limit_in_bytes: 64, unified: { a: '1', b: '3' } }),
    resources({ hugepage_limits: [page('2Mi', 1)] }),
    resources({ hugepage_limits: [page('2Mi', 2)] }),
    resources(undefined, { memory_limit_in_bytes: 64 }),
    resources(undefined, { cpu_shares: 64 }),
    resources({ memory_limit_in_bytes: 64 }, { memory_limit_in_bytes: 64 }),
    '',
  ];
  t.equal(new Set(different).size, different.length);
  t.equal(resources(undefined), '');
  t.equal(resources({}), '');
  t.equal(resources({ cpuset_cpus: '0-3', cpuset_mems: '0' }, {}), '', 'nothing but cpusets');
});

t.test('an unknown field of the resources counts, another order of fields does not', async (t) => {
  const plus = (resources: Buffer) =>
    ofContainer(Buffer.concat([original, bytesField(2, bytesField(15, bytesField(1, resources)))])).resources;
  const base = ofContainer(original).resources;
  t.not(base, '');
  t.not(plus(bytesField(99, 'new')), base);
  t.equal(plus(Buffer.from('188004', 'hex')), base, 'the same cpu_shares again');
  const only = bytesField(2, bytesField(15, bytesField(1, bytesField(99, 'new'))));
  t.not(
    ofContainer(Buffer.concat([changed(({ config }) => Object.assign(config, { linux: {} })), only])).resources,
    '',
  );
});

t.test('requests that differ only in attempt share a family and a digest, never a key', async (t) => {
  const first = ofContainer(original);
  const next = ofContainer(
    changed(({ config }) => {
      config.metadata.attempt = 1;
      config.log_path = 'main/1.log';
      config.annotations['io.kubernetes.container.restartCount'] = '1';
    }),
  );
  t.not(next.key, first.key);
  t.equal(next.family, first.family);
  t.equal(next.digest, first.digest);

  const request = podSandboxRequest();
  const sandbox = ofPodSandbox(encode('RunPodSandboxRequest', request));
  request.config.metadata.attempt = 3;
  const bumped = ofPodSandbox(encode('RunPodSandboxRequest', request));
  t.not(bumped.key, sandbox.key);
  t.equal(bumped.family, sandbox.family);
  t.equal(bumped.digest, sandbox.digest);
});

t.test('another attempt of the pod sandbox leaves the container its key and is drift', async (t) => {
  const moved = ofContainer(changed(({ sandbox_config }) => Object.assign(sandbox_config.metadata, { attempt: 3 })));
  t.equal(moved.key, ofContainer(original).key);
  t.strictSame(driftOf(ofContainer(original).parts, moved.parts), ['sandbox_config.metadata.attempt']);
});

t.test('the random host path of the termination log is not drift, wherever it is mounted', async (t) => {
  const retry = (
    { config }: ReturnType<typeof containerRequest>,
    hostPath: string,
    containerPath: string,
    annotation?: string,
  ) => {
    config.mounts[2] = { container_path: containerPath, host_path: hostPath };
    const name = 'io.kubernetes.container.terminationMessagePath';
    if (annotation === undefined) delete config.annotations[name];
    else config.annotations[name] = annotation;
  };
  const same = (containerPath: string, annotation?: string) => {
    const digests = ['/one', '/two'].map(
      (hostPath) => ofContainer(changed((request) => retry(request, hostPath, containerPath, annotation))).digest,
    );
    return digests[0] === digests[1];
  };
  t.ok(same('/dev/termination-log', '/dev/termination-log'));
  t.ok(same('/dev/termination-log'), 'default where no annotation says');
  t.ok(same('/tmp/end', '/tmp/end'));
  t.ok(same('/tmp/end', 'tmp//end/'), 'the kubelet cleans the path for the mount, not for the annotation');
  t.ok(same('tmp//end/', 'tmp//end/'), 'and others may not');
  t.notOk(same('/dev/termination-log', '/tmp/end'), 'a volume that happens to be mounted there');
  t.notOk(same('/tmp/end'));
  t.notOk(same('', ''));
});

t.test(
  'where a volume is mounted on the termination log too, only the last mount is the one the kubelet makes up',
  async (t) => {
    const print = (volume: string, log: string, readonly = false) =>
      ofContainer(
        changed(({ config }) => {
          config.mounts = [volume, log].map((host_path) => ({
            container_path: '/dev/termination-log',
            host_path,
            readonly,
          }));
        }),
      );
    const { digest, parts } = print('/volume', '/one');
    t.equal(print('/volume', '/two').digest, digest);
    t.strictSame(driftOf(parts, print('/other', '/one').parts), ['config.mounts[/dev/termination-log]']);
    t.strictSame(driftOf(parts, print('/volume', '/one', true).parts), ['config.mounts[/dev/termination-log]']);
  },
);

t.test('volatile annotations do not count, on the pod or the container; others do', async (t) => {
  const seen = 'kubernetes.io/config.seen';
  t.strictSame(
    containerDrift(({ config, sandbox_config }) => {
      sandbox_config.annotations[seen] = 'now';
      config.annotations[seen] = 'now';
    }),
    [],
  );
  const request = podSandboxRequest();
  const before = ofPodSandbox(encode('RunPodSandboxRequest', request));
  request.config.annotations[seen] = 'now';
  t.equal(ofPodSandbox(encode('RunPodSandboxRequest', request)).digest, before.digest);

  const none = { volatileAnnotations: new Set<string>() };
  const after = changed(({ sandbox_config }) => Object.assign(sandbox_config.annotations, { [seen]: 'now' }));
  t.strictSame(
    driftOf(printed(fingerprintContainer(original, none)).parts, printed(fingerprintContainer(after, none)).parts),
    [`sandbox_config.annotations[${seen}]`],
  );
});

t.test('an annotation counts as restart count in the container only', async (t) => {
  const name = 'io.kubernetes.container.restartCount';
  t.strictSame(
    containerDrift(({ sandbox_config }) => Object.assign(sandbox_config.annotations, { [name]: '1' })),
    [`sandbox_config.annotations[${name}]`],
  );
});

t.test('environment variables of one name keep their order, since the last one counts', async (t) => {
  const twice = (first: string, second: string) =>
    changed(({ config }) => {
      config.envs = [
        { key: 'A', value: Buffer.from(first) },
        { key: 'A', value: Buffer.from(second) },
      ];
    });
  t.not(ofContainer(twice('1', '2')).digest, ofContainer(twice('2', '1')).digest);
});

const ofPodSandboxPlus = (...config: Buffer[]) =>
  ofPodSandbox(
    Buffer.concat([encode('RunPodSandboxRequest', podSandboxRequest()), bytesField(1, Buffer.concat(config))]),
  );

t.test('a pod sandbox uses the host network where its namespace options say NODE, and nowhere else', async (t) => {
  const network = (options: string) => bytesField(8, bytesField(2, bytesField(1, Buffer.from(options, 'hex'))));
  const uses = (...config: Buffer[]) => ofPodSandboxPlus(...config).usesHostNetwork;
  t.ok(uses(network('0802')), 'NODE');
  t.ok(uses(network('088280808010')), 'cut to 32 bits, as a decoder does');
  for (const other of ['0800', '0801', '0803', '', '1002', '1802']) t.notOk(uses(network(other)), `options ${other}`);
  t.notOk(uses(), 'no linux');
  t.notOk(uses(bytesField(8, '')), 'no security context');
  t.notOk(uses(bytesField(8, bytesField(2, ''))), 'no namespace options');
  t.notOk(uses(network('0802'), network('0800')), 'the last counts');
  t.ok(uses(network('088280808010'), tooMany), 'too large or not');
  t.notOk(uses(network('0801'), tooMany), 'too large or not');
});

t.test('a pod is static where its annotation says that it comes from a file', async (t) => {
  const source = (value: string) =>
    changed(({ sandbox_config }) =>
      Object.assign(sandbox_config.annotations, { 'kubernetes.io/config.source': value }),
    );
  t.ok(ofContainer(source('file')).isStatic);
  for (const other of ['api', 'http', '', 'files']) t.notOk(ofContainer(source(other)).isStatic, other);
  const onContainer = changed(({ config }) =>
    Object.assign(config.annotations, { 'kubernetes.io/config.source': 'file' }),
  );
  t.notOk(ofContainer(onContainer).isStatic);
});

t.test('no name of a container or its pod sandbox may be other than UTF-8', async (t) => {
  const bad = Buffer.from('ff', 'hex');
  const plus = (bytes: Buffer) => fingerprintContainer(Buffer.concat([original, bytes]), options);
  t.ok(plus(bytesField(2, bytesField(1, bytesField(1, 'other')))));
  t.equal(plus(bytesField(2, bytesField(1, bytesField(1, bad)))), undefined, 'container name');
  t.equal(plus(bytesField(1, bad)), undefined, 'pod sandbox id');
  for (const number of [1, 2, 3]) {
    t.equal(plus(bytesField(3, bytesField(1, bytesField(number, bad)))), undefined, `pod metadata ${number}`);
  }
});

t.test('what belongs to the identity is not in the digest', async (t) => {
  const { digest } = ofContainer(original);
  const same = (change: (request: ReturnType<typeof containerRequest>) => void) =>
    ofContainer(changed(change)).digest === digest;
  t.ok(same(({ config }) => Object.assign(config.metadata, { name: 'other', attempt: 7 })));
  t.ok(same(({ sandbox_config }) => Object.assign(sandbox_config.metadata, { name: 'a', uid: 'b', namespace: 'c' })));
  t.notOk(same(({ sandbox_config }) => Object.assign(sandbox_config, { hostname: 'other' })));
  t.notOk(same((request) => Object.assign(request, { pod_sandbox_id: 'p2' })));

  const request = podSandboxRequest();
  const before = ofPodSandbox(encode('RunPodSandboxRequest', request));
  Object.assign(request.config.metadata, { name: 'a', uid: 'b', namespace: 'c', attempt: 7 });
  t.equal(ofPodSandbox(encode('RunPodSandboxRequest', request)).digest, before.digest);
  request.runtime_handler = 'kata';
  t.not(ofPodSandbox(encode('RunPodSandboxRequest', request)).digest, before.digest);
});

t.test('the order of environment variables does not count', async (t) => {
  const reversed = changed(({ config }) => void config.envs.reverse());
  t.equal(ofContainer(reversed).digest, ofContainer(original).digest);
});

t.test('a container without a termination log has a fingerprint, too', async (t) => {
  t.ok(ofContainer(changed(({ config }) => void config.mounts.splice(0))));
});

t.test('no two identities share a family or a key, whatever their kind', async (t) => {
  const { namespace, name, uid, container } = ofContainer(original).identity;
  const { family, key } = ofPodSandbox(encode('RunPodSandboxRequest', podSandboxRequest()));
  const families = [
    family,
    containerFamily({ namespace, name, uid, container }),
    containerFamily({ namespace, name, uid, container: '' }),
    containerFamily({ namespace: name, name: namespace, uid, container }),
    containerFamily({ namespace, name, uid: container, container: uid }),
    containerFamily({ namespace: `${namespace}","${name}`, name: uid, uid: '', container }),
  ];
  t.equal(new Set(families).size, families.length);
  t.not(key, ofContainer(original).key);
  t.not(key, ofPodSandboxPlus(bytesField(1, Buffer.from('2003', 'hex'))).key, 'another attempt');
});

t.test('what is no fault of the request is thrown', async (t) => {
  const broken = new Set<string>();
  broken[Symbol.iterator] = () => {
    throw new RangeError('broken');
  };
  t.throws(() => fingerprintContainer(original, { volatileAnnotations: broken }), RangeError);
  const sandbox = encode('RunPodSandboxRequest', podSandboxRequest());
  t.throws(() => fingerprintPodSandbox(sandbox, { volatileAnnotations: broken }), RangeError);
});

// Requests with too many fields for a normal form.

t.test('a request of more than 65,536 fields is still one of its identity', async (t) => {
  t.notOk(ofContainer(Buffer.concat([original, many(60_000)])).tooLarge);
  const whole = ofContainer(original);
  t.notOk(whole.tooLarge);
  const packed = bytesField(2, bytesField(15, bytesField(2, bytesField(8, Buffer.alloc(65_536)))));
  const envs = bytesField(
    2,
    Buffer.concat(Array.from({ length: 40_000 }, (_, n) => bytesField(6, bytesField(1, `${n}`)))),
  );
  for (const [what, more] of Object.entries({ tooMany, packed, envs })) {
    const print = ofContainer(Buffer.concat([original, more]));
    t.strictSame(
      print,
      { ...whole, digest: '', parts: { ...whole.parts, digest: '', nameRuns: [], hashes: '' }, tooLarge: true },
      what,
    );
  }
});

t.test('an attempt is cut to 32 bits, as a decoder does, too large or not', async (t) => {
  const beyond = bytesField(2, bytesField(1, Buffer.from('108380808010', 'hex')));
  const bytes = Buffer.concat([original, beyond]);
  for (const more of [Buffer.alloc(0), tooMany]) t.equal(ofContainer(Buffer.concat([bytes, more])).identity.attempt, 3);
});

t.test('a malformed or incomplete request has no fingerprint, however large', async (t) => {
  const large = Buffer.concat([original, tooMany]);
  t.ok(fingerprintContainer(large, options));
  t.equal(fingerprintContainer(Buffer.concat([large, Buffer.from('0a', 'hex')]), options), undefined, 'cut short');
  const damaged = bytesField(2, Buffer.from('0a05', 'hex'));
  t.equal(fingerprintContainer(Buffer.concat([large, damaged]), options), undefined, 'a damaged config');
  t.equal(fingerprintContainer(tooMany, options), undefined, 'no identity');
  t.equal(fingerprintPodSandbox(tooMany, options), undefined, 'no identity');
});

t.test('a request too large for a digest has drifted from none, and none from it', async (t) => {
  const [one, other] = [ofContainer(original), ofContainer(changed(({ config }) => void config.mounts.reverse()))];
  const large = ofContainer(Buffer.concat([original, tooMany]));
  t.ok(hasDrifted(one, other));
  t.notOk(hasDrifted(one, ofContainer(original)));
  for (const [from, to] of [
    [one, large],
    [large, one],
    [large, large],
  ] as const) {
    t.notOk(hasDrifted(from, to));
    t.strictSame(driftOf(from.parts, to.parts), []);
  }
});

t.test('no fingerprint is made of millions of fields, or of a message in thousands of parts', async (t) => {
  const plus = (fields: Buffer) => fingerprintContainer(Buffer.concat([original, tooMany, fields]), options);
  t.ok(plus(many(900_000)));
  t.equal(plus(many(1_000_000)), undefined);
  const parts = (count: number) => Buffer.from('12020a00'.repeat(count), 'hex');
  t.ok(plus(parts(900)));
  t.equal(plus(parts(1_000)), undefined);
});

t.test(
  'the resources of a request too large for a digest count too, unless they are too large themselves',
  async (t) => {
    const { resources } = ofContainer(original);
    const plus = (config: Buffer) => ofContainer(Buffer.concat([original, bytesField(2, config), tooMany])).resources;
    t.equal(plus(Buffer.alloc(0)), resources);
    const moved = bytesField(15, bytesField(1, Buffer.from('2040', 'hex')));
    t.not(plus(moved), resources);
    t.equal(plus(moved), ofContainer(Buffer.concat([original, bytesField(2, moved)])).resources);
    t.equal(plus(bytesField(15, bytesField(1, tooMany))), '');
  },
);

t.test('a pod sandbox request too large for a normal form is still one of its identity', async (t) => {
  const bytes = encode('RunPodSandboxRequest', podSandboxRequest());
  const whole = ofPodSandbox(bytes);
  t.notOk(whole.tooLarge);
  t.equal(whole.parts.message, 'RunPodSandboxRequest');
  t.strictSame(ofPodSandbox(Buffer.concat([bytes, tooMany])), {
    ...whole,
    digest: '',
    parts: { message: 'RunPodSandboxRequest', digest: '', nameRuns: [], hashes: '' },
    tooLarge: true,
  });
});

t.test('resources for Windows of a request too large for a digest count, too', async (t) => {
  const windows = bytesField(2, bytesField(16, bytesField(1, Buffer.from('0805', 'hex'))));
  const { resources } = ofContainer(Buffer.concat([original, windows]));
  t.not(resources, ofContainer(original).resources);
  t.equal(ofContainer(Buffer.concat([original, windows, tooMany])).resources, resources);
  const none = bytesField(2, bytesField(16, ''));
  t.equal(ofContainer(Buffer.concat([original, none, tooMany])).resources, ofContainer(original).resources);
});

t.test('a request without config, metadata or pod has no fingerprint, large or not', async (t) => {
  const { config, sandbox_config, pod_sandbox_id } = containerRequest();
  const whole = { pod_sandbox_id, config, sandbox_config };
  const without = [
    { ...whole, config: undefined },
    { ...whole, config: { log_path: 'main/0.log' } },
    { ...whole, sandbox_config: undefined },
    { ...whole, sandbox_config: { log_directory: '/var/log' } },
  ];
  for (const more of [Buffer.alloc(0), tooMany]) {
    for (const request of without) {
      const bytes = Buffer.concat([encode('CreateContainerRequest', request), more]);
      t.equal(fingerprintContainer(bytes, options), undefined);
    }
    for (const request of [{}, { config: { log_directory: '/var/log' } }]) {
      const bytes = Buffer.concat([encode('RunPodSandboxRequest', request), more]);
      t.equal(fingerprintPodSandbox(bytes, options), undefined);
    }
  }
});

t.test('what a request does not say reads as empty', async (t) => {
  const pod = { metadata: { name: 'web', uid: 'u1', namespace: 'shop' } };
  const container = { pod_sandbox_id: 'p1', config: { metadata: { name: 'main' } }, sandbox_config: pod };
  for (const more of [Buffer.alloc(0), tooMany]) {
    t.match(ofContainer(Buffer.concat([encode('CreateContainerRequest', container), more])), {
      identity: { attempt: 0 },
      specHash: '',
      logPath: '',
      logDirectory: '',
      resources: '',
      isStatic: false,
    });
    t.match(ofPodSandbox(Buffer.concat([encode('RunPodSandboxRequest', { config: pod }), more])), {
      identity: { attempt: 0 },
      runtimeHandler: '',
      logDirectory: '',
      isStatic: false,
      usesHostNetwork: false,
    });
  }
});

t.test('pod sandboxes of another namespace, name or uid are another family, those of another attempt are not', (t) => {
  const familyOf = (metadata: Fields) => {
    const request = podSandboxRequest();
    const config = { ...request.config, metadata: { ...request.config.metadata, ...metadata } };
    return ofPodSandbox(encode('RunPodSandboxRequest', { ...request, config })).family;
  };
  const families = [{}, { namespace: 'other' }, { name: 'other' }, { uid: 'other' }].map(familyOf);
  t.equal(new Set(families).size, 4);
  t.equal(familyOf({ attempt: 7 }), families[0]);
  t.end();
});

t.test('a family says whose container it is', (t) => {
  const identity = { namespace: 'n"', name: 'p,', uid: '', container: 'c' };
  t.same(containerOf(containerFamily(identity)), identity);
  t.end();
});

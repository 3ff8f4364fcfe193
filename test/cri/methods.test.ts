import t from 'tap';
import { hidesContainers } from '../../src/cri/container-items.js';
import {
  callName,
  callNames,
  type IdField,
  isStreaming,
  type Method,
  methodOf,
  methodOfName,
} from '../../src/cri/methods.js';
import { messageSchema, service } from '../../src/cri/schema.js';

const methods = service('RuntimeService').methodsArray;

function known(name: string): Method {
  const method = methodOf(`/runtime.v1.RuntimeService/${name}`);
  if (method === undefined) throw new Error(`${name} is not in the table`);
  return method;
}

t.test('every method of the schema is known, in both versions of the API', async (t) => {
  t.ok(methods.length > 30);
  for (const { name, responseStream } of methods) {
    const method = known(name);
    t.equal(method.name, name);
    t.equal(methodOf(`/runtime.v1alpha2.RuntimeService/${name}`), method);
    t.equal(method.streaming, responseStream === true, `${name} streams as in the schema`);
    t.equal(isStreaming(`/runtime.v1.RuntimeService/${name}`), method.streaming);
  }
});

t.test('ids are read from the fields that hold them', async (t) => {
  const fieldName = (requestType: string, id: IdField) => messageSchema(requestType).fields.get(id.number)?.name;
  for (const { name, requestType } of methods) {
    for (const id of [known(name).uses, known(name).ends]) {
      if (id === undefined) continue;
      t.equal(fieldName(requestType, id), id.kind === 'podSandbox' ? 'pod_sandbox_id' : 'container_id', name);
    }
  }
});

t.test('the methods that report containers are those whose responses can be filtered', async (t) => {
  for (const { name } of methods) t.equal(known(name).reportsContainers, hidesContainers(name), name);
});

t.test('every request with an id has a role, unless asking for a report proves nothing', async (t) => {
  const noProof = ['ContainerStatus', 'ContainerStats', 'PodSandboxStats'];
  for (const { name, requestType } of methods) {
    const first = messageSchema(requestType).fields.get(1)?.name;
    const namesId = first === 'pod_sandbox_id' || first === 'container_id';
    const { uses, ends } = known(name);
    t.equal(uses !== undefined || ends !== undefined, namesId && !noProof.includes(name), name);
    t.notOk(uses !== undefined && ends !== undefined, `${name} does not both use and end`);
  }
});

t.test('creations, starts and ends are told apart', async (t) => {
  const named = (test: (method: Method) => boolean) =>
    methods.map(({ name }) => name).filter((name) => test(known(name)));
  t.strictSame(
    named(({ creates }) => creates === 'podSandbox'),
    ['RunPodSandbox'],
  );
  t.strictSame(
    named(({ creates }) => creates === 'container'),
    ['CreateContainer'],
  );
  t.strictSame(
    named(({ startsContainer }) => startsContainer),
    ['StartContainer'],
  );
  t.strictSame(
    named(({ events }) => events),
    ['GetContainerEvents'],
  );
  t.strictSame(
    named(({ ends }) => ends !== undefined),
    ['StopPodSandbox', 'RemovePodSandbox', 'StopContainer', 'RemoveContainer'],
  );
});

t.test('methods that are not of the runtime service have no role', async (t) => {
  for (const path of [
    '/runtime.v1.ImageService/PullImage',
    '/runtime.v1.RuntimeService/RestorePod',
    '/runtime.v2.RuntimeService/RunPodSandbox',
    'runtime.v1.RuntimeService/RunPodSandbox',
    '/runtime.v1.RuntimeService/RunPodSandbox/',
    '/runtime.v1.RuntimeService/__proto__',
    '',
  ]) {
    t.equal(methodOf(path), undefined, path);
    t.equal(isStreaming(path), false, path);
  }
  t.equal(isStreaming('/runtime.v1.ImageService/StreamImages'), true);
});

t.test(
  'a call is counted under the name of its method, whatever the version of the API, and all others as one',
  (t) => {
    for (const [path, name] of [
      ['/runtime.v1.RuntimeService/RunPodSandbox', 'RunPodSandbox'],
      ['/runtime.v1alpha2.RuntimeService/RunPodSandbox', 'RunPodSandbox'],
      ['/runtime.v1.ImageService/PullImage', 'PullImage'],
      ['/runtime.v1alpha2.ImageService/StreamImages', 'StreamImages'],
      ['/runtime.v1.RuntimeService/PullImage', 'other'],
      ['/runtime.v2.RuntimeService/RunPodSandbox', 'other'],
      ['', 'other'],
    ] as const) {
      t.equal(callName(path), name, path);
    }
    const names = ['RuntimeService', 'ImageService'].flatMap((name) =>
      service(name).methodsArray.map((method) => method.name),
    );
    t.same(
      names.filter((name) => !callNames.includes(name)),
      [],
      'every method of the CRI has a name of its own',
    );
    t.notOk(callNames.includes('other'));
    t.equal(methodOfName('PodSandboxStatus'), known('PodSandboxStatus'));
    t.equal(methodOfName('PullImage'), undefined);
    t.end();
  },
);

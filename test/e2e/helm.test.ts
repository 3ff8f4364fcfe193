/** The chart in examples/helm: what it renders is what Kubernetes takes, and examples/kubernetes is what it renders. */
import fs from 'node:fs';
import { fileURLToPath } from 'node:url';
import { PodMonitor } from '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PodMonitor';
import { PrometheusRule } from '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PrometheusRule';
import { Ajv } from 'ajv';
import { DaemonSet } from 'kubernetes-models/apps/v1/DaemonSet';
import { Job } from 'kubernetes-models/batch/v1/Job';
import { ConfigMap } from 'kubernetes-models/v1/ConfigMap';
import { Namespace } from 'kubernetes-models/v1/Namespace';
import { ServiceAccount } from 'kubernetes-models/v1/ServiceAccount';
import t from 'tap';
import { parse, parseAllDocuments } from 'yaml';
import { chartFiles, manifests } from '../../scripts/manifests.js';
import { version } from '../../src/config/version.js';
import { chart, helm, missingHelm, type Render, type Rendered } from './support/helm.js';
import { skipFor } from './support/programs.js';

const skip = skipFor(missingHelm());
const examples = fileURLToPath(new URL('../../examples', import.meta.url));
const read = (name: string) => fs.readFileSync(`${examples}/${name}`, 'utf8');

let render: Render = () => Promise.reject(new Error('no helm'));
if (skip === false) {
  t.before(async () => {
    const directory = t.testdir({});
    render = await helm(directory);
  });
}

interface Resource {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
}

function resources(rendered: Rendered): Resource[] {
  const { 'NOTES.txt': notes, ...templates } = rendered;
  return Object.values(templates).flatMap(resourcesIn);
}

function resourcesIn(text: string): Resource[] {
  return parseAllDocuments(text).flatMap((document) => {
    if (document.errors.length > 0) throw document.errors[0];
    const value = document.toJS();
    return value === null ? [] : [value];
  });
}

const models = { ConfigMap, DaemonSet, Job, Namespace, PodMonitor, PrometheusRule, ServiceAccount };

/** By the schemas of Kubernetes's own OpenAPI, and of the Prometheus operator's. @returns What is wrong with it. */
function complaint(resource: Resource): string | undefined {
  const Model = models[resource.kind as keyof typeof models];
  try {
    const model = new Model(resource as never);
    model.validate();
    return model.apiVersion === resource.apiVersion ? undefined : `${resource.kind} is of ${model.apiVersion}`;
  } catch (error) {
    return `${resource.kind} ${resource.metadata.name}: ${error instanceof Error ? error.message : error}`;
  }
}

const full = {
  image: { digest: `sha256:${'0'.repeat(64)}` },
  imagePullSecrets: [{ name: 'pull' }],
  affinity: { nodeAffinity: { preferredDuringSchedulingIgnoredDuringExecution: [{ weight: 1, preference: {} }] } },
  install: {
    platform: 'kubeadm',
    runtime: '/run/crio/crio.sock',
    kubeletUnit: 'k.service',
    acceptUnsupported: true,
    label: false,
  },
  config: 'admin: /run/holdfast/admin.sock\nhold-ttl: 5m\n',
  serviceAccount: { name: 'other', annotations: { a: 'b' } },
  podLabels: { team: 'a' },
  podAnnotations: { note: 'a' },
  podMonitor: { enabled: true, labels: { release: 'p' } },
  prometheusRule: { enabled: true, labels: { release: 'p' } },
  dashboard: { enabled: true },
  uninstall: { nodes: ['node-a', `${'very-long-'.repeat(8)}name.example.org`] },
};
const sets: readonly [name: string, values: object][] = [
  ['the defaults', {}],
  ['all there is', full],
  [
    'as little as there can be',
    { affinity: null, seLinuxOptions: null, serviceAccount: { create: false }, config: '' },
  ],
];
for (const [name, values] of sets) {
  t.test(`with ${name}, Kubernetes takes what is rendered`, { skip }, async (t) => {
    const all = resources(await render(values));
    t.ok(all.some(({ kind }) => kind === 'DaemonSet'));
    for (const resource of all) {
      t.equal(complaint(resource), undefined, resource.kind);
      t.equal(resource.metadata.namespace, 'holdfast');
      t.match(resource.metadata.name, /^[a-z0-9][a-z0-9.-]{0,61}[a-z0-9]$/);
    }
  });
}

t.test('a schema that is broken is noticed', { skip }, async (t) => {
  const [daemonSet] = resourcesIn((await render())['daemonset.yaml'] ?? '');
  t.match(complaint({ ...daemonSet, spec: { template: {} } } as unknown as Resource), /selector/);
});

t.test('values that the chart does not know or cannot use are refused by its schema', async (t) => {
  const validate = new Ajv({ allErrors: true, allowUnionTypes: true }).compile(
    JSON.parse(read('helm/holdfast/values.schema.json')),
  );
  const defaults: Record<string, unknown> = parse(read('helm/holdfast/values.yaml'));
  t.ok(validate(defaults), JSON.stringify(validate.errors));
  const wrong: readonly [string, unknown][] = [
    ['maxUnavaiable', 2],
    ['maxUnavailable', 0],
    ['install', { platform: 'talos' }],
    ['install', { confirmWithin: '2' }],
    ['metrics', { port: 70_000 }],
    ['image', { repository: '' }],
    ['uninstall', { nodes: 'node-a' }],
  ];
  for (const [name, value] of wrong)
    t.notOk(validate({ ...defaults, [name]: value }), `${name}: ${JSON.stringify(value)}`);
});

t.test(
  'examples/kubernetes is what the chart renders, and the chart has the alerts and the dashboard',
  { skip },
  async (t) => {
    for (const [name, text] of Object.entries({ ...chartFiles(), ...(await manifests(render)) })) {
      t.equal(read(name), text, `${name}: npm run manifests`);
    }
    for (const file of ['kubernetes/holdfast.yaml', 'kubernetes/monitoring.yaml']) {
      for (const resource of resourcesIn(read(file))) t.equal(complaint(resource), undefined, resource.kind);
    }
  },
);

t.test('the chart is of the version that it installs', async (t) => {
  const { appVersion } = parse(fs.readFileSync(`${chart}/Chart.yaml`, 'utf8'));
  t.equal(appVersion, version);
});

t.test(
  'no container is privileged or keeps a capability that is not said, and no pod has a token',
  { skip },
  async (t) => {
    const pods = resources(await render(full)).flatMap((resource) => podsOf(resource));
    t.equal(pods.length, 3);
    for (const pod of pods) {
      t.equal(pod.automountServiceAccountToken, false);
      for (const { name, securityContext } of [...(pod.initContainers ?? []), ...pod.containers]) {
        t.match(
          securityContext,
          {
            privileged: false,
            readOnlyRootFilesystem: true,
            allowPrivilegeEscalation: false,
            capabilities: { drop: ['ALL'] },
          },
          name,
        );
        t.strictSame(
          securityContext.capabilities.add ?? [],
          name === 'sidecar' ? [] : ['SYS_CHROOT', 'DAC_OVERRIDE', 'CHOWN', 'FOWNER'],
          name,
        );
      }
    }
  },
);

interface Pod {
  readonly automountServiceAccountToken: boolean;
  readonly initContainers?: readonly Container[];
  readonly containers: readonly Container[];
}

interface Container {
  readonly name: string;
  readonly securityContext: { readonly capabilities: { readonly add?: readonly string[] } };
}

function podsOf(resource: Resource): Pod[] {
  const { spec } = resource as unknown as { spec?: { template?: { spec?: Pod } } };
  return spec?.template?.spec === undefined ? [] : [spec.template.spec];
}

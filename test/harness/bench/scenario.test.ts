import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t from 'tap';
import { stringify } from 'yaml';
import { ConfigError } from '../../../src/config/config-error.js';
import { armList, readScenario, shippedScenarios } from '../../../src/harness/bench/scenario.js';

const directory = mkdtempSync(path.join(tmpdir(), 'hf-scenario-'));
t.teardown(() => rmSync(directory, { recursive: true }));

const file = path.join(directory, 'slow.yaml');

function read(content: object) {
  writeFileSync(file, stringify({ description: 'Slow', pods: 2, watch: '5s', ...content }));
  return readScenario(file);
}

t.test('the scenarios that are shipped are read by name', async (t) => {
  const names = [
    'boot-storm',
    'critical-first',
    'deleted-midway',
    'flapping-runtime',
    'hung-once',
    'hung-some',
    'jobs',
    'restarts',
    'slow-cni',
    'slow-create',
    'slow-disk',
    'slow-start',
    'steady',
  ];
  t.strictSame(shippedScenarios(), names);
  for (const name of names) t.equal(readScenario(name).name, name);
});

t.test('what is not given has its default', async (t) => {
  const always = { medianMs: 100, sigma: 0, stall: undefined };
  t.strictSame(read({}), {
    name: 'slow',
    description: 'Slow',
    pods: 2,
    watchMs: 5_000,
    watchesAll: false,
    sideBySide: false,
    kubelet: {
      requestTimeoutMs: 120_000,
      backoffMs: [10_000, 15_000],
      relistMs: 1_000,
      arrivalsPerSecond: undefined,
      containers: 1,
      exits: undefined,
      initContainers: undefined,
      restartPolicies: ['Always'],
      pullMs: undefined,
      events: false,
      delete: undefined,
      critical: undefined,
      static: undefined,
    },
    runtime: {
      profile: 'containerd',
      runPodSandbox: always,
      createContainer: always,
      startContainer: always,
      rollbackMs: 100,
      contention: undefined,
      failures: { share: 0, hangShare: 0 },
      hangs: { share: 0, times: undefined, leadMs: 0 },
      restarts: [],
    },
    arms: ['direct', 'holdfast'],
    holdfast: [],
  });
});

t.test('every field is read', async (t) => {
  const scenario = read({
    'watch-all': true,
    'side-by-side': true,
    arms: 'strategies, direct, holdfast',
    holdfast: { 'max-creations': 4, 'critical-namespace': 'a,b' },
    kubelet: {
      'request-timeout': '4s',
      backoff: { least: '1s', longest: '2s' },
      relist: '250ms',
      arrivals: '0.5/s',
      containers: 3,
      exits: { after: '2s', code: 3, times: 2 },
      'init-containers': { count: 2, run: '300ms' },
      'restart-policy': ['never', 'on-failure', 'always'],
      pull: '400ms',
      events: true,
      delete: { share: '50%', after: '3s' },
      critical: { pods: 1, after: '2s' },
      static: { pods: 1, after: '2s', delete: '3s', return: '9s' },
    },
    runtime: {
      profile: 'crio-remove',
      'run-pod-sandbox': { median: '2s', sigma: 0.5, stall: { share: '2.5%', for: '9s' } },
      'create-container': '1s',
      'start-container': { median: '3s' },
      rollback: '0s',
      contention: { cores: 4, coefficient: 0.05, resource: 'io', busy: '30%' },
      failures: { share: '5%', 'hang-share': 1 },
      hangs: { share: '20%', times: 3, lead: '1s' },
      restarts: [{ at: '5s', down: '2s' }],
    },
  });
  t.strictSame(scenario, {
    name: 'slow',
    description: 'Slow',
    pods: 2,
    watchMs: 5_000,
    watchesAll: true,
    sideBySide: true,
    kubelet: {
      requestTimeoutMs: 4_000,
      backoffMs: [1_000, 2_000],
      relistMs: 250,
      arrivalsPerSecond: 0.5,
      containers: 3,
      exits: { afterMs: 2_000, code: 3, times: 2 },
      initContainers: { count: 2, runMs: 300 },
      restartPolicies: ['Never', 'OnFailure', 'Always'],
      pullMs: 400,
      events: true,
      delete: { share: 0.5, afterMs: 3_000 },
      critical: { pods: 1, afterMs: 2_000 },
      static: { pods: 1, afterMs: 2_000, away: { deleteMs: 3_000, returnMs: 9_000 } },
    },
    runtime: {
      profile: 'crio-remove',
      runPodSandbox: { medianMs: 2_000, sigma: 0.5, stall: { share: 0.025, forMs: 9_000 } },
      createContainer: { medianMs: 1_000, sigma: 0, stall: undefined },
      startContainer: { medianMs: 3_000, sigma: 0, stall: undefined },
      rollbackMs: 0,
      contention: { cores: 4, coefficient: 0.05, resource: 'io', busy: 0.3 },
      failures: { share: 0.05, hangShare: 0.01 },
      hangs: { share: 0.2, times: 3, leadMs: 1_000 },
      restarts: [{ atMs: 5_000, downMs: 2_000 }],
    },
    arms: ['crio-remove', 'containerd', 'crio-store', 'holdfast', 'direct'],
    holdfast: ['--max-creations=4', '--critical-namespace=a,b'],
  });
});

t.test(
  'static pods stay unless they are to go and come back, and what hangs does so for ever unless it is counted',
  async (t) => {
    const { kubelet, runtime } = read({ kubelet: { static: { pods: 2 } }, runtime: { hangs: { share: '10%' } } });
    t.strictSame(kubelet.static, { pods: 2, afterMs: 0, away: undefined });
    t.strictSame(runtime.hangs, { share: 0.1, times: undefined, leadMs: 0 });
  },
);

const contention = { cores: 4, coefficient: 0.1 };

/** What is wrong, the field's name, and what is said of it. */
const refused: [content: object, field: string, said: RegExp][] = [
  [{ description: ' ' }, 'description', /: " " is not allowed; give a text/],
  [{ pods: 0 }, 'pods', /: "0" is not allowed; give a whole number from 1 to 5000/],
  [{ watch: '5' }, 'watch', /: "5" is not allowed; give a duration/],
  [{ 'side-by-side': 'no' }, 'side-by-side', /: "no" is not allowed; give true or false/],
  [{ arms: ['direct', 'podman'] }, 'arms', /: \["direct","podman"\] is not allowed; give a list of one of direct, /],
  [{ arms: [] }, 'arms', /: \[\] is not allowed/],
  [{ holdfast: { 'max-creation': 4 } }, 'holdfast.max-creation', / is not known; allowed are .*max-creations/],
  [{ holdfast: { 'max-creations': 'x' } }, 'holdfast.max-creations', /: "x" is not allowed; give a whole number/],
  [{ holdfast: { listen: '/x' } }, 'holdfast.listen', / is not known/],
  [{ kubelet: 'fast' }, 'kubelet', /: "fast" is not allowed; give a mapping/],
  [{ kubelet: { speed: 1 } }, 'kubelet.speed', / is not known; allowed are .*request-timeout, /],
  [{ kubelet: { 'request-timeout': '0s' } }, 'kubelet.request-timeout', /: "0s" is not allowed/],
  [{ kubelet: { backoff: { least: 'x' } } }, 'kubelet.backoff.least', /: "x" is not allowed/],
  [{ kubelet: { backoff: { longest: 'x' } } }, 'kubelet.backoff.longest', /: "x" is not allowed/],
  [{ kubelet: { backoff: { least: '2s', longest: '1s' } } }, 'kubelet.backoff.longest', /: "1s" .* give at least/],
  [{ kubelet: { backoff: { most: '1s' } } }, 'kubelet.backoff.most', / is not known/],
  [{ kubelet: { relist: '1' } }, 'kubelet.relist', /: "1" is not allowed/],
  [{ kubelet: { arrivals: '5/m' } }, 'kubelet.arrivals', /: "5\/m" is not allowed; give at-once or N\/s/],
  [{ kubelet: { containers: 0 } }, 'kubelet.containers', /: "0" is not allowed/],
  [{ kubelet: { events: 1 } }, 'kubelet.events', /: "1" is not allowed/],
  [{ kubelet: { delete: { share: '101%', after: '1s' } } }, 'kubelet.delete.share', /: "101%" is not allowed/],
  [{ kubelet: { delete: { share: '1%' } } }, 'kubelet.delete.after', / is missing: give a duration/],
  [{ kubelet: { delete: { share: '1%', after: '1s', at: 1 } } }, 'kubelet.delete.at', / is not known/],
  [{ 'watch-all': 1 }, 'watch-all', /: "1" is not allowed; give true or false/],
  [{ kubelet: { exits: { code: 1 } } }, 'kubelet.exits.after', / is missing: give a duration/],
  [{ kubelet: { exits: { after: '1s', code: 256 } } }, 'kubelet.exits.code', /: "256" is not allowed/],
  [{ kubelet: { exits: { after: '1s', times: 0 } } }, 'kubelet.exits.times', /: "0" is not allowed/],
  [{ kubelet: { exits: { after: '1s', often: 1 } } }, 'kubelet.exits.often', / is not known/],
  [{ kubelet: { 'init-containers': { count: 1 } } }, 'kubelet.init-containers.run', / is missing/],
  [{ kubelet: { 'init-containers': { count: 0, run: '1s' } } }, 'kubelet.init-containers.count', /: "0" is not/],
  [{ kubelet: { 'init-containers': { count: 1, run: '1s', x: 1 } } }, 'kubelet.init-containers.x', / is not known/],
  [{ kubelet: { 'restart-policy': 'seldom' } }, 'kubelet.restart-policy', /: "seldom" .* one of always, on-failure, n/],
  [{ kubelet: { pull: '0s' } }, 'kubelet.pull', /: "0s" is not allowed/],
  [{ kubelet: { static: { pods: 1, delete: '1s' } } }, 'kubelet.static.return', / is missing/],
  [{ kubelet: { static: { pods: 1, return: '1s' } } }, 'kubelet.static.delete', / is missing/],
  [{ kubelet: { static: { pods: 1, delete: '2s', return: '2s' } } }, 'kubelet.static.return', /: "2s" .* more than/],
  [
    { kubelet: { static: { pods: 1, after: '2s', delete: '2s', return: '3s' } } },
    'kubelet.static.delete',
    /: "2s" .* more than for after/,
  ],
  [{ kubelet: { static: { pods: 1, after: 'x' } } }, 'kubelet.static.after', /: "x" is not allowed/],
  [{ kubelet: { static: { pods: 1, delete: '2s', return: '3s', x: 1 } } }, 'kubelet.static.x', / is not known/],
  [{ kubelet: { critical: { after: '1s' } } }, 'kubelet.critical.pods', / is missing: give a whole number/],
  [{ kubelet: { critical: { pods: 1, after: 'x' } } }, 'kubelet.critical.after', /: "x" is not allowed/],
  [{ runtime: { profile: 'crio' } }, 'runtime.profile', /: "crio" is not allowed; give one of containerd, /],
  [
    { runtime: { 'run-pod-sandbox': '3x' } },
    'runtime.run-pod-sandbox',
    /: "3x" is not allowed; give a duration .* or a/,
  ],
  [
    { runtime: { 'create-container': ['1s'] } },
    'runtime.create-container',
    /: \["1s"\] is not allowed; give a duration/,
  ],
  [{ runtime: { 'start-container': { sigma: 1 } } }, 'runtime.start-container.median', / is missing/],
  [{ runtime: { 'start-container': { median: '1s', sigma: -1 } } }, 'runtime.start-container.sigma', /: "-1" is not/],
  [{ runtime: { 'start-container': { median: '1s', tail: 1 } } }, 'runtime.start-container.tail', / is not known/],
  [
    { runtime: { 'start-container': { median: '1s', stall: { share: 'x', for: '1s' } } } },
    'runtime.start-container.stall.share',
    /: "x" is not allowed; give percent/,
  ],
  [
    { runtime: { 'start-container': { median: '1s', stall: { share: '1%' } } } },
    'runtime.start-container.stall.for',
    / is missing/,
  ],
  [{ runtime: { rollback: '-1s' } }, 'runtime.rollback', /: "-1s" is not allowed/],
  [{ runtime: { contention: { ...contention, cores: 0 } } }, 'runtime.contention.cores', /: "0" is not allowed/],
  [{ runtime: { contention: { ...contention, coefficient: 0 } } }, 'runtime.contention.coefficient', /: "0" is not/],
  [{ runtime: { contention: { ...contention, resource: 'gpu' } } }, 'runtime.contention.resource', /: "gpu" is not/],
  [{ runtime: { contention: { ...contention, busy: '101%' } } }, 'runtime.contention.busy', /: "101%" is not/],
  [{ runtime: { hangs: { times: 1 } } }, 'runtime.hangs.share', / is missing: give percent/],
  [{ runtime: { hangs: { share: '1%', times: 0 } } }, 'runtime.hangs.times', /: "0" is not allowed/],
  [{ runtime: { hangs: { share: '1%', lead: '1' } } }, 'runtime.hangs.lead', /: "1" is not allowed/],
  [{ runtime: { hangs: { share: '1%', pods: 1 } } }, 'runtime.hangs.pods', / is not known/],
  [{ runtime: { failures: { share: 'all' } } }, 'runtime.failures.share', /: "all" is not allowed/],
  [{ runtime: { failures: { 'hang-share': 'all' } } }, 'runtime.failures.hang-share', /: "all" is not allowed/],
  [{ runtime: { restarts: { at: '1s' } } }, 'runtime.restarts', /: \{"at":"1s"\} is not allowed; give a list of mapp/],
  [{ runtime: { restarts: [{ at: 'x', down: '1s' }] } }, 'runtime.restarts[0].at', /: "x" is not allowed/],
  [{ runtime: { restarts: [{ at: '1s' }] } }, 'runtime.restarts[0].down', / is missing/],
];

for (const [content, field, said] of refused) {
  t.test(`${JSON.stringify(content)} is refused by its name`, async (t) => {
    t.throws(() => read(content), ConfigError);
    try {
      read(content);
    } catch (error) {
      const { message } = error as Error;
      t.ok(message.startsWith(`${field} in ${file}`), message);
      t.match(message, said);
      t.notMatch(message, '\n');
    }
  });
}

t.test('a field at the top that is not known is refused, and so is what is no scenario', async (t) => {
  t.throws(() => read({ speed: 1 }), { message: /^unknown key "speed" in .*slow\.yaml; allowed are description, / });
  writeFileSync(file, '- a\n');
  t.throws(() => readScenario(file), { message: /slow\.yaml" must be a mapping/ });
  t.throws(() => readScenario('fast-cni'), {
    message: /^--scenario: "fast-cni" is no file, and none of boot-storm, .*steady$/,
  });
});

t.test('arms are a list in which each is named once', async (t) => {
  t.strictSame(armList.parse('direct,holdfast'), ['direct', 'holdfast']);
  t.strictSame(armList.parse('holdfast, strategies'), ['holdfast', 'crio-remove', 'containerd', 'crio-store']);
  t.equal(armList.parse('direct,'), undefined);
});

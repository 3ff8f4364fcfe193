import t from 'tap';
import { messageType } from '../../src/cri/schema.js';
import { updateResourcesRequest } from '../../src/cri/update-resources.js';
import { WireError } from '../../src/cri/wire.js';

const createType = messageType('CreateContainerRequest');
const updateType = messageType('UpdateContainerResourcesRequest');

function creation(config: object): Buffer {
  return Buffer.from(createType.encode(createType.fromObject({ pod_sandbox_id: 'p1', config })).finish());
}

function update(bytes: Buffer): object {
  return updateType.toObject(updateType.decode(updateResourcesRequest('c1', bytes)), { longs: Number });
}

t.test('the update asks for the resources of the creation, but for its cpusets', async (t) => {
  const resources = {
    cpu_period: 100_000,
    cpu_quota: 50_000,
    cpu_shares: 512,
    memory_limit_in_bytes: 256 * 2 ** 20,
    oom_score_adj: 985,
    hugepage_limits: [{ page_size: '2MB', limit: 0 }],
    unified: { 'memory.high': '1' },
    memory_swap_limit_in_bytes: 1,
  };
  const bytes = creation({
    linux: {
      resources: { ...resources, cpuset_cpus: '0-3', cpuset_mems: '0' },
      security_context: { privileged: true },
    },
  });
  t.match(update(bytes), { container_id: 'c1', linux: { ...resources, hugepage_limits: [{ page_size: '2MB' }] } });
  t.notMatch(update(bytes), { linux: { cpuset_cpus: /./ } });
  t.notMatch(update(bytes), { linux: { cpuset_mems: /./ } });
  t.notMatch(update(bytes), { windows: {} });
});

t.test('windows resources go along as they are', async (t) => {
  const resources = { cpu_shares: 1, cpu_count: 2, memory_limit_in_bytes: 3, affinity_cpus: [{ cpu_mask: 4 }] };
  t.same(update(creation({ windows: { resources } })), { container_id: 'c1', windows: resources });
});

t.test('a creation without resources asks for none', async (t) => {
  t.same(update(creation({ linux: { security_context: {} } })), { container_id: 'c1' });
  t.same(update(creation({})), { container_id: 'c1' });
  t.same(update(Buffer.alloc(0)), { container_id: 'c1' });
});

t.test('unknown fields of the resources are kept, to the byte', async (t) => {
  const field = (number: number, value: Buffer) => Buffer.concat([Buffer.from([number * 8 + 2, value.length]), value]);
  const kept = ['1801', '9a0603787878', '20808001'].map((hex) => Buffer.from(hex, 'hex'));
  const [first, ...rest] = kept;
  const cpuset = field(6, Buffer.from('0-3'));
  const resources = Buffer.concat([first ?? cpuset, cpuset, ...rest]);
  const request = field(2, field(15, field(1, resources)));
  const expected = Buffer.concat([field(1, Buffer.from('c1')), field(2, Buffer.concat(kept))]);
  t.equal(updateResourcesRequest('c1', request).toString('hex'), expected.toString('hex'));
});

t.test('a malformed creation throws', async (t) => {
  t.throws(() => updateResourcesRequest('c1', Buffer.from('1205', 'hex')), WireError);
  t.throws(() => updateResourcesRequest('c1', Buffer.from('12067a040a023205', 'hex')), WireError);
});

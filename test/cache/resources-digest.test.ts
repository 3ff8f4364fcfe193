import t from 'tap';
import { type NormalMessage, parseMessage } from '../../src/cache/normal-form.js';
import { resourcesDigest } from '../../src/cache/resources-digest.js';
import { messageSchema } from '../../src/cri/schema.js';
import { bytesField, encode, type Fields } from './requests.js';

function resources(type: string, fields: Fields | Buffer | undefined): NormalMessage | undefined {
  if (fields === undefined) return undefined;
  return parseMessage(messageSchema(type), fields instanceof Buffer ? fields : encode(type, fields));
}

function digest(linux: Fields | Buffer | undefined, windows?: Fields | Buffer): string {
  return resourcesDigest(resources('LinuxContainerResources', linux), resources('WindowsContainerResources', windows));
}

const page = (page_size: string, limit: number) => ({ page_size, limit });

t.test('resources that differ have different digests of 16 hex digits', async (t) => {
  const different = [
    digest({ cpu_shares: 512 }),
    digest({ cpu_shares: 513 }),
    digest({ memory_limit_in_bytes: 512 }),
    digest({ cpu_shares: 512, unified: { a: '1' } }),
    digest({ cpu_shares: 512, unified: { a: '2' } }),
    digest({ hugepage_limits: [page('2Mi', 1)] }),
    digest({ hugepage_limits: [page('2Mi', 2)] }),
    digest({ hugepage_limits: [page('1Gi', 1)] }),
    digest(bytesField(99, 'unknown')),
    digest(undefined, { cpu_shares: 512 }),
    digest(undefined, { cpu_count: 512 }),
    digest(undefined, bytesField(99, 'unknown')),
    digest({ cpu_shares: 512 }, { cpu_shares: 512 }),
  ];
  t.equal(new Set(different).size, different.length);
  for (const each of different) t.match(each, /^[0-9a-f]{16}$/);
});

t.test('resources that mean the same have the same digest', async (t) => {
  t.equal(digest({ cpu_shares: 512 }), digest({ cpu_shares: 512, cpu_quota: 0 }, {}));
  t.equal(digest({ unified: { a: '1', b: '2' } }), digest({ unified: { b: '2', a: '1' } }));
  const [small, large] = [page('2Mi', 1), page('1Gi', 2)];
  t.equal(digest({ hugepage_limits: [small, large] }), digest({ hugepage_limits: [large, small] }));
});

t.test('cpusets do not count', async (t) => {
  t.equal(digest({ cpu_shares: 512, cpuset_cpus: '0-3' }), digest({ cpu_shares: 512 }));
  t.equal(digest({ cpu_shares: 512, cpuset_mems: '0' }), digest({ cpu_shares: 512 }));
});

t.test('resources that say nothing have no digest', async (t) => {
  t.equal(digest(undefined), '');
  t.equal(digest({}), '');
  t.equal(digest(undefined, {}), '');
  t.equal(digest({ cpuset_cpus: '0-3', cpuset_mems: '0' }, {}), '');
  t.equal(digest({}, { cpu_shares: 1 }), digest(undefined, { cpu_shares: 1 }));
});

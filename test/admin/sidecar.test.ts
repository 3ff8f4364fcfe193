import t from 'tap';
import { inPath } from '../../src/admin/sidecar.js';

const seen = (statusAgoMs: number | undefined, listAgoMs: number | undefined) => ({
  status: { calls: 1, lastAgoMs: statusAgoMs },
  lists: { calls: 1, lastAgoMs: listAgoMs },
});
const told = (uptimeMs: number, kubelet: ReturnType<typeof seen>, limit: number | 'off' = 150_000) =>
  inPath({ uptimeMs, kubelet }, limit);

t.test('a kubelet is behind Holdfast where it has both listed and asked for the status lately', (t) => {
  t.equal(told(1_000_000, seen(150_000, 1_000)), true);
  t.equal(told(1_000_000, seen(1_000, 150_000)), true);
  t.equal(told(1_000_000, seen(150_001, 1_000)), false);
  t.equal(told(1_000_000, seen(undefined, 1_000)), false, 'so does an agent');
  t.equal(told(1_000_000, seen(1_000, undefined)), false, 'so does crictl info');
  t.end();
});

t.test('before it could have been seen it is not known, and where it is not looked for never', (t) => {
  t.equal(told(149_999, seen(undefined, undefined)), undefined);
  t.equal(told(150_000, seen(undefined, undefined)), false);
  t.equal(told(1_000, seen(500, 500)), true);
  t.equal(told(1_000_000, seen(1_000, 1_000), 'off'), undefined);
  t.end();
});

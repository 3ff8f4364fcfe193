import t from 'tap';
import { ofPod, podsIn } from '../../src/admin/pods.js';

const creation = (namespace: string, pod: string, uid: string) =>
  ({ kind: 'podSandbox', namespace, pod, uid }) as const;
const [web, otherWeb, db] = [
  creation('shop', 'web', 'abc-1'),
  creation('test', 'web', 'abd-2'),
  creation('shop', 'db', 'web'),
];
const unknown = { kind: 'start' } as const;
const all = [web, otherWeb, db, unknown];

t.test('a pod is found by namespace and name, by name, or by the begin of its uid, in this order', (t) => {
  t.same(ofPod(all, 'shop/web'), [web]);
  t.same(ofPod(all, 'web'), [web, otherWeb]);
  t.same(ofPod(all, 'abd'), [otherWeb]);
  t.same(ofPod(all, 'ab'), [web, otherWeb]);
  t.same(ofPod(all, 'nothing'), []);
  t.same(ofPod(all, 'undefined/undefined'), [], 'a start of which it is not known whose it is');
  t.end();
});

t.test('each pod is named once, with its uid', (t) => {
  t.same(
    [...podsIn([web, web, unknown, db])],
    [
      ['abc-1', 'shop/web (uid abc-1)'],
      ['web', 'shop/db (uid web)'],
    ],
  );
  t.end();
});

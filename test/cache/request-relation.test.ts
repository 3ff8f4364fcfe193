import t from 'tap';
import type { Creation, CreationRequest } from '../../src/cache/creation.js';
import { relationOf } from '../../src/cache/request-relation.js';
import { type ContainerFields, container, lone, podSandbox } from './store-rig.js';

const keep = { onDrift: 'keep', onAttemptBump: 'join' } as const;

function begun(request: CreationRequest<string>): Creation<string, string> {
  const creation = lone(request);
  creation.keys = [request.fingerprint.key];
  return creation;
}

const known = () => begun(container({ attempt: 1 }));
const asked = (fields: ContainerFields = {}) => container({ attempt: 1, ...fields }).fingerprint;

t.test('the same identity is the same request, whatever has drifted but spec hash and pod sandbox', (t) => {
  t.equal(relationOf(known(), asked(), keep), 'same request');
  t.equal(relationOf(known(), asked({ image: 'other' }), keep), 'same request');
  t.equal(relationOf(known(), asked({ hash: '2' }), keep), 'other spec hash or pod sandbox');
  t.equal(relationOf(known(), asked({ podSandboxId: 's2' }), keep), 'other spec hash or pod sandbox');
  t.end();
});

t.test('what has drifted is another one where it is to be made anew', (t) => {
  const recreate = { ...keep, onDrift: 'recreate' } as const;
  t.equal(relationOf(known(), asked(), recreate), 'same request');
  t.equal(relationOf(known(), asked({ image: 'other' }), recreate), 'other spec hash or pod sandbox');
  t.equal(relationOf(begun(podSandbox()), podSandbox(0, 'h2').fingerprint, keep), 'same request');
  t.equal(relationOf(begun(podSandbox()), podSandbox(0, 'h2').fingerprint, recreate), 'other spec hash or pod sandbox');
  t.end();
});

t.test('another attempt of a container is told as such, or as another one where it is to be made anew', (t) => {
  const recreate = { ...keep, onAttemptBump: 'recreate' } as const;
  for (const attempt of [0, 2]) {
    t.equal(relationOf(known(), asked({ attempt }), keep), 'another attempt of a container');
    t.equal(relationOf(known(), asked({ attempt }), recreate), 'other spec hash or pod sandbox');
  }
  t.end();
});

t.test('an attempt that has been given it is the same request from then on', (t) => {
  const creation = known();
  creation.keys = [...creation.keys, asked({ attempt: 2 }).key];
  const recreate = { ...keep, onAttemptBump: 'recreate' } as const;
  t.equal(relationOf(creation, asked({ attempt: 2 }), recreate), 'same request');
  t.equal(relationOf(creation, asked({ attempt: 3 }), keep), 'another attempt of a container');
  t.end();
});

t.test('of a pod sandbox a higher attempt is told from a lower one', (t) => {
  const creation = begun(podSandbox(1));
  t.equal(relationOf(creation, podSandbox(1).fingerprint, keep), 'same request');
  t.equal(relationOf(creation, podSandbox(2).fingerprint, keep), 'higher attempt of a pod sandbox');
  t.equal(relationOf(creation, podSandbox(0).fingerprint, keep), 'lower attempt of a pod sandbox');
  t.end();
});

import { readdirSync } from 'node:fs';
import t from 'tap';
import { runDemo } from '../../src/commands/demo.js';
import { ownTmpdir } from '../support/own-tmpdir.js';

t.test('the demo ends with every pod behind Holdfast running and leaves nothing behind', async (t) => {
  const directory = ownTmpdir(t);
  let text = '';
  const signal = new AbortController().signal;
  // The straight side cannot bring up a pod whatever time it has; half a second is enough to look at.
  const converged = await runDemo((part) => (text += part), { signal, straightMs: 500, proxiedMs: 60_000 });
  t.ok(converged);
  const [straight, proxied] = text.trimEnd().split('\n').slice(-2);
  t.match(straight, /^straight to containerd: 0 of 6 pods running after .* s; made of begun: 0 of 6 sandboxes/);
  t.match(proxied, /^through Holdfast: +6 of 6 pods running after .* s; made of begun: 6 of 6 sandboxes, /);
  t.same(readdirSync(directory), []);
});

t.test('a demo that is interrupted has not converged and leaves nothing behind', async (t) => {
  const directory = ownTmpdir(t);
  t.notOk(await runDemo(() => undefined, { signal: AbortSignal.abort() }));
  t.same(readdirSync(directory), []);
});

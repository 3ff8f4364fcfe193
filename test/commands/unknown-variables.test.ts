/** What `holdfast serve` says of variables it does not know. Needs the built program. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import t from 'tap';

const executable = fileURLToPath(new URL('../../bin/holdfast.js', import.meta.url));

t.test('a mistyped variable is a line in the log with the one that was meant, and not the end', async (t) => {
  const { stdout, stderr, status } = spawnSync(
    process.execPath,
    [executable, 'serve', '--listen=/dev/null', '--runtime=/run/none.sock'],
    { encoding: 'utf8', env: { ...process.env, HOLDFAST_HOLDTTL: '5m', HOLDFAST_SERVICE_HOST: '10.0.0.1' } },
  );
  const lines = stdout.split('\n').filter((line) => line.includes('no option of Holdfast'));
  t.equal(lines.length, 1);
  t.match(JSON.parse(lines[0] ?? '{}'), {
    level: 'warn',
    variable: 'HOLDFAST_HOLDTTL',
    nearest: 'HOLDFAST_HOLD_TTL',
  });
  t.equal(status, 1);
  t.match(stderr, /^holdfast: --listen: cannot listen on \/dev\/null: /, 'it went on to listen');
});

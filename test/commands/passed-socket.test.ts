/** What `serve` says of a descriptor that was passed and is of no use. Needs the built program. */
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';

const executable = fileURLToPath(new URL('../../bin/holdfast.js', import.meta.url));
const serve = [process.execPath, executable, 'serve', '--runtime', '/run/holdfast-test/runtime.sock'];
const env = { PATH: process.env.PATH, LISTEN_FDS: '1', LISTEN_FDNAMES: 'holdfast.socket' };
const begin = 'cannot use the socket that was passed: holdfast.socket (descriptor 3) is a ';

t.test('a TCP socket without --listen is named, and the option of the unit', async (t) => {
  const server = createServer().listen(0, '127.0.0.1');
  t.teardown(() => server.close());
  await once(server, 'listening');
  const { port } = server.address() as { readonly port: number };
  const { fd } = (server as unknown as { readonly _handle: { readonly fd: number } })._handle;
  const { status, stderr } = spawnSync('sh', ['-c', 'LISTEN_PID=$$ exec "$@"', 'sh', ...serve], {
    env,
    stdio: ['ignore', 'pipe', 'pipe', fd],
    encoding: 'utf8',
  });
  t.match(stderr, `${begin}TCP socket, 127.0.0.1:${port}, and a kubelet connects to a Unix stream socket at a path: `);
  t.match(stderr, 'in its socket unit, in place of ListenStream= with a port');
  t.notMatch(stderr, '--listen');
  t.equal(status, 2);
});

/** Opens a unix socket as descriptor 3, and becomes the program behind the path. */
const passing = (type: string) => `
  use Socket; $^F = 3;
  socket(my $s, AF_UNIX, ${type}, 0) or die $!; fileno($s) == 3 or die;
  bind($s, sockaddr_un(shift)) or die $!;
  ${type === 'SOCK_DGRAM' ? '' : 'listen($s, 8) or die $!;'}
  $ENV{LISTEN_PID} = $$; exec @ARGV;`;

const hasPerl = spawnSync('perl', ['-MSocket', '-e', '1']).status === 0;

for (const [type, sort, option] of [
  ['SOCK_DGRAM', 'Unix datagram socket', 'ListenDatagram='],
  ['SOCK_SEQPACKET', 'Unix sequential packet socket', 'ListenSequentialPacket='],
] as const) {
  t.test(`a ${sort} is named, and ${option}`, { skip: !hasPerl && 'needs perl' }, async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'hf-'));
    t.teardown(() => rmSync(folder, { recursive: true }));
    const path = join(folder, 'x.sock');
    const { status, stderr } = spawnSync('perl', ['-e', passing(type), path, ...serve], {
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
      encoding: 'utf8',
    });
    t.match(stderr, `${begin}${sort}, ${path}, and a kubelet`);
    t.match(stderr, `in place of ${option}`);
    t.equal(status, 2);
  });
}

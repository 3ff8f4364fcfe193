/**
 * A server that answers each call with as many bytes as its path is given here: `fixed-answers.ts SOCKET PATH=BYTES…`. What a
 * benchmark measures with it is the way there, not a runtime.
 */
import { createServer } from 'node:http2';

const [socket, ...answers] = process.argv.slice(2);
const bodies = new Map(
  answers.map((answer) => {
    const [path = '', bytes] = answer.split('=');
    return [path, Buffer.alloc(Number(bytes))];
  }),
);

// In MB: as many answers at once as a benchmark asks for.
const server = createServer({ maxSessionMemory: 1000 });
server.on('stream', (stream, headers) => {
  stream.on('error', () => {});
  stream.resume();
  stream.once('end', () => {
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
    stream.once('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
    stream.end(bodies.get(headers[':path'] ?? ''));
  });
});
server.listen(socket);

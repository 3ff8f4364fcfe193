/**
 * The other end of the URL that Exec answers: Kubernetes' remote command protocol over a WebSocket, output only.
 */
import { randomBytes } from 'node:crypto';
import http from 'node:http';

/**
 * Runs the command behind a streaming URL to its end.
 *
 * Source: RFC 6455, section 5.2 (frames); k8s.io/apimachinery remotecommand, protocol `v4.channel.k8s.io`: the first byte of
 * a message is its channel, 1 is stdout, 3 the final status as JSON.
 *
 * @returns What it wrote to stdout, and the status as it came.
 */
export function execStream(url: string): Promise<{ stdout: string; status: string }> {
  return new Promise((resolve, reject) => {
    const request = http.get(url, {
      headers: {
        connection: 'Upgrade',
        upgrade: 'websocket',
        'sec-websocket-version': '13',
        'sec-websocket-key': randomBytes(16).toString('base64'),
        'sec-websocket-protocol': 'v4.channel.k8s.io',
      },
    });
    request.on('error', reject);
    request.on('response', (response) => {
      response.destroy();
      reject(new Error(`no upgrade: HTTP ${response.statusCode}`));
    });
    request.on('upgrade', (_response, socket, head) => {
      const chunks = [head];
      socket.on('data', (chunk) => chunks.push(chunk));
      socket.on('error', reject);
      socket.on('end', () => socket.end());
      socket.on('close', () => {
        const output: Record<number, string> = {};
        for (const message of messages(Buffer.concat(chunks))) {
          const channel = message[0] ?? 0;
          output[channel] = (output[channel] ?? '') + message.subarray(1).toString();
        }
        resolve({ stdout: output[1] ?? '', status: output[3] ?? '' });
      });
    });
  });
}

/** The payloads of the data frames a server has sent (unmasked, unfragmented). */
function messages(bytes: Buffer): Buffer[] {
  const found: Buffer[] = [];
  for (let at = 0; at + 2 <= bytes.length; ) {
    const opcode = bytes.readUInt8(at) & 0x0f;
    let length = bytes.readUInt8(at + 1) & 0x7f;
    at += 2;
    if (length === 126) {
      length = bytes.readUInt16BE(at);
      at += 2;
    } else if (length === 127) {
      length = Number(bytes.readBigUInt64BE(at));
      at += 8;
    }
    if (opcode === 1 || opcode === 2) found.push(bytes.subarray(at, at + length));
    at += length;
  }
  return found;
}

/** One `Version` call on a CRI socket, as a kubelet makes it first: who answers there, or why nobody does. */
import http2 from 'node:http2';
import net from 'node:net';
import { messageType } from '../cri/schema.js';

/** An empty VersionRequest with gRPC's prefix: not compressed, no bytes. */
const emptyMessage = Buffer.alloc(5);

export interface CriVersion {
  readonly runtimeName: string;
  readonly runtimeVersion: string;
  readonly apiVersion: string;
}

/** How the socket of a CRI server is asked; a test brings its own. */
export type AskVersion = (socket: string, timeoutMs: number) => Promise<CriVersion>;

/** For how long a command waits for an answer. */
export const versionWithinMs = 10_000;

/** `code`: that of connect(2), e.g. ENOENT, ECONNREFUSED, EACCES; ETIMEDOUT; or the gRPC status as a number. */
export class NoVersionError extends Error {
  override readonly name = 'NoVersionError';
  readonly code: string;
  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

/** What went wrong, with its code, as one line. */
export function shownFault(error: unknown): string {
  return error instanceof NoVersionError ? `${error.code}: ${error.message}` : String(error);
}

/**
 * @param socket Path of a unix socket, as this process sees it.
 * @throws {NoVersionError} No answer within `timeoutMs`, or none that is OK.
 */
export function criVersion(socket: string, timeoutMs: number): Promise<CriVersion> {
  return new Promise((resolve, reject) => {
    const connection = net.connect(socket);
    const session = http2.connect('http://localhost', { createConnection: () => connection });
    const close = () => {
      clearTimeout(timer);
      session.destroy();
      connection.destroy();
    };
    const fail = (code: string, message: string) => {
      close();
      reject(new NoVersionError(code, message));
    };
    const timer = setTimeout(() => fail('ETIMEDOUT', `no answer in ${timeoutMs} ms`), timeoutMs);
    const failed = (error: Error & { code?: string }) => fail(error.code ?? 'UNKNOWN', error.message);
    connection.on('error', failed);
    connection.on('close', () => fail('ECONNRESET', 'it hung up'));
    session.on('error', failed);
    const request = session.request({
      ':method': 'POST',
      ':path': '/runtime.v1.RuntimeService/Version',
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    request.on('error', failed);
    const chunks: Buffer[] = [];
    let status: Readonly<Record<string, unknown>> = {};
    const keep = (headers: Readonly<Record<string, unknown>>) => {
      status = headers;
    };
    request.on('response', keep);
    request.on('trailers', keep);
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const code = String(status['grpc-status'] ?? '2');
      if (code !== '0') {
        fail(code, decodeURIComponent(String(status['grpc-message'] ?? `gRPC status ${code}`)));
        return;
      }
      try {
        const answer = messageType('VersionResponse').decode(Buffer.concat(chunks).subarray(emptyMessage.length));
        const { runtime_name, runtime_version, runtime_api_version } = answer as unknown as Record<string, string>;
        close();
        resolve({
          runtimeName: runtime_name ?? '',
          runtimeVersion: runtime_version ?? '',
          apiVersion: runtime_api_version ?? '',
        });
      } catch (error) {
        fail('EPROTO', `no VersionResponse: ${String(error)}`);
      }
    });
    request.end(emptyMessage);
  });
}

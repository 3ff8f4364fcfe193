/** Asks a running Holdfast over its admin socket. What goes wrong is said in a way that tells what to do. */
import { readFileSync } from 'node:fs';
import { request } from 'node:http';
import { dirname, join } from 'node:path';

/** Where `holdfast status` and `holdfast forget` look unless told otherwise: what the shipped configuration has. */
export const defaultAdminSocket = '/run/holdfast/admin.sock';

/** How long nothing may come, in ms; a look at a runtime that hangs takes 5 s of it. */
const usualTimeoutMs = 15_000;

/** `not running`: nobody answers at the socket. */
type Silence = 'not running' | 'not permitted' | 'no answer' | 'refused';

export class AdminError extends Error {
  override readonly name = 'AdminError';
  readonly reason: Silence;

  constructor(reason: Silence, message: string) {
    super(message);
    this.reason = reason;
  }
}

export interface AdminAnswer {
  readonly status: number;
  readonly text: string;
}

/** @param body Sent with POST; undefined: GET. @throws {AdminError} Nobody answers, or not in time. */
export function askAdmin(
  socket: string,
  path: string,
  body?: string,
  timeoutMs = usualTimeoutMs,
): Promise<AdminAnswer> {
  return new Promise((resolve, reject) => {
    const method = body === undefined ? 'GET' : 'POST';
    const asked = request({ socketPath: socket, path, method, timeout: timeoutMs, agent: false }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString() }));
      response.on('error', (error) => reject(silence(socket, error)));
    });
    asked.on('timeout', () =>
      asked.destroy(
        new AdminError(
          'no answer',
          `Holdfast has not answered at ${socket} for ${timeoutMs / 1000} s: is it stopped, or has it no CPU?`,
        ),
      ),
    );
    asked.on('error', (error) => reject(silence(socket, error)));
    asked.end(body);
  });
}

/** @throws {AdminError} As askAdmin, and where the answer is not 200. */
export async function askAdminJson<Answer>(socket: string, path: string, body?: string): Promise<Answer> {
  const { status, text } = await askAdmin(socket, path, body);
  if (status !== 200) throw new AdminError('refused', `Holdfast answered ${status} at ${socket}: ${text.trim()}`);
  try {
    return JSON.parse(text);
  } catch {
    throw new AdminError('refused', `what answers at ${socket} is not Holdfast`);
  }
}

function silence(socket: string, error: NodeJS.ErrnoException): AdminError {
  if (error instanceof AdminError) return error;
  switch (error.code) {
    case 'ENOENT':
      return new AdminError(
        'not running',
        `there is no ${socket}: Holdfast is not running, or without --admin ${socket}`,
      );
    case 'ECONNREFUSED':
      return new AdminError('not running', `nobody answers at ${socket}: Holdfast is not running`);
    case 'EACCES':
    case 'EPERM':
      return new AdminError(
        'not permitted',
        `${socket} may not be used by you: ask as root, or as one of the group of --admin-group`,
      );
    case 'ECONNRESET':
    case 'EPIPE':
      return new AdminError(
        'no answer',
        `Holdfast hung up at ${socket}: it is about to end, or too many connections are open there; try again`,
      );
    default:
      return new AdminError('no answer', `no answer at ${socket}: ${error.message}`);
  }
}

/** That the node is without Holdfast on purpose. */
export interface Bypass {
  /** As the bypass wrote it, ISO 8601; '' where it did not. */
  readonly since: string;
  readonly why: string;
}

/** The mark that the bypass leaves beside the admin socket while it serves the kubelet. @returns undefined: there is none. */
export function readBypass(socket: string): Bypass | undefined {
  let line: string;
  try {
    line = readFileSync(join(dirname(socket), 'bypassed'), 'utf8').trim();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return code === 'ENOENT' || code === 'ENOTDIR' ? undefined : { since: '', why: String(error) };
  }
  const [since = '', ...why] = line.split(' ');
  return { since, why: why.join(' ') };
}

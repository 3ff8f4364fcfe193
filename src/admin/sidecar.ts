/**
 * Metrics and health of a Holdfast over TCP, from its admin socket: for a container or a unit beside it. It answers while Holdfast does not,
 * says whether the node is bypassed and whether the kubelet is behind Holdfast, and does nothing to the node.
 */
import type { Logger } from 'pino';
import type { Clock } from '../clock.js';
import { askSummary } from './answers.js';
import { AdminError, askAdmin, readBypass } from './client.js';
import { type HttpEndpoint, type Routes, sendText, serveHttp, type Where } from './http.js';
import type { Summary } from './routes.js';

/** How often it looks, in ms. */
const lookEveryMs = 10_000;

export interface SidecarOptions {
  /** Path of the admin socket. */
  readonly admin: string;
  readonly metrics: Where;
  /** A kubelet that has neither listed nor asked for the status for so long is not behind Holdfast, in ms; off: it is not looked for. */
  readonly kubeletCheckMs: number | 'off';
}

/** undefined: it is not known. */
export type InPath = boolean | undefined;

/** Whether a kubelet's calls come: it does both, each more often than the limit. */
export function inPath({ kubelet, uptimeMs }: Pick<Summary, 'kubelet' | 'uptimeMs'>, limitMs: number | 'off'): InPath {
  if (limitMs === 'off') return undefined;
  const { status, lists } = kubelet;
  const oldestMs = Math.max(status.lastAgoMs ?? Number.POSITIVE_INFINITY, lists.lastAgoMs ?? Number.POSITIVE_INFINITY);
  if (oldestMs <= limitMs) return true;
  return uptimeMs < limitMs ? undefined : false;
}

export class Sidecar {
  readonly #options: SidecarOptions;
  readonly #clock: Clock;
  readonly #log: Logger;
  #said = '';
  #endpoint: HttpEndpoint | undefined;
  #cancelLook = (): void => {};
  #isClosed = false;

  constructor(options: SidecarOptions, clock: Clock, log: Logger) {
    this.#options = options;
    this.#clock = clock;
    this.#log = log;
  }

  /** @returns The port it listens on. @throws {AdminListenError} */
  async start(): Promise<number> {
    this.#endpoint = await serveHttp(this.#options.metrics, this.#routes());
    void this.#lookAgain();
    return this.#endpoint.port;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#cancelLook();
    await this.#endpoint?.close();
  }

  #routes(): Routes {
    return {
      '/metrics': {
        GET: async ({ response }) => {
          response
            .writeHead(200, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' })
            .end(await this.#metrics());
        },
      },
      '/healthz': { GET: ({ response }) => sendText(response, 200, 'ok') },
      '/readyz': {
        GET: async ({ response }) => {
          const trouble = await this.#trouble();
          sendText(response, trouble === undefined ? 200 : 503, trouble ?? 'ok');
        },
      },
    };
  }

  /** @returns Why the node does not do well with Holdfast; undefined: it does. */
  async #trouble(): Promise<string | undefined> {
    const { admin, kubeletCheckMs } = this.#options;
    const { status, text } = await this.#ask('/readyz');
    if (status !== 200) return text.trim();
    const bypass = readBypass(admin);
    if (bypass !== undefined) return bypassedText(bypass);
    const summary = await this.#summary();
    if (summary === undefined) return 'Holdfast does not answer as this version expects it';
    if (kubeletCheckMs === 'off') return undefined;
    const behind = inPath(summary, kubeletCheckMs);
    if (behind === undefined) return 'no kubelet has both listed and asked for the status yet';
    return behind ? undefined : 'the kubelet is not behind Holdfast';
  }

  async #metrics(): Promise<string> {
    const [metrics, summary] = [await this.#ask('/metrics'), await this.#summary()];
    const isBypassed = readBypass(this.#options.admin) !== undefined;
    const behind =
      summary === undefined ? (isBypassed ? false : undefined) : inPath(summary, this.#options.kubeletCheckMs);
    return [
      metrics.status === 200 ? metrics.text.trimEnd() : '',
      gauge('holdfast_up', 'Whether Holdfast answers.', metrics.status === 200),
      gauge(
        'holdfast_bypassed',
        'Whether the kubelet talks to the runtime without Holdfast since that failed.',
        isBypassed,
      ),
      gauge('holdfast_in_path', 'Whether calls of a kubelet come to Holdfast; NaN while it is not known.', behind),
      '',
    ].join('\n');
  }

  async #lookAgain(): Promise<void> {
    const summary = await this.#summary();
    this.#say(summary);
    if (!this.#isClosed) this.#cancelLook = this.#clock.after(lookEveryMs, () => void this.#lookAgain());
  }

  /** What has changed since it was said. */
  #say(summary: Summary | undefined): void {
    const { admin, kubeletCheckMs } = this.#options;
    const bypass = readBypass(admin);
    const behind = summary && inPath(summary, kubeletCheckMs);
    const state = summary === undefined ? `silent ${bypass !== undefined}` : `up ${behind}`;
    if (
      state === this.#said ||
      (behind === undefined && summary !== undefined && this.#said !== '' && !this.#said.startsWith('silent'))
    )
      return;
    this.#said = state;
    if (summary === undefined && bypass !== undefined)
      this.#log.warn({ ...bypass }, 'bypassed: the kubelet talks to the runtime without Holdfast');
    else if (summary === undefined) this.#log.warn({ admin }, 'Holdfast does not answer');
    else if (behind === false) {
      this.#log.warn(
        { kubelet: summary.kubelet },
        'the kubelet is not behind Holdfast: none has listed and asked for the status lately',
      );
    } else this.#log.info({ version: summary.version }, behind ? 'the kubelet is behind Holdfast' : 'Holdfast answers');
  }

  async #summary(): Promise<Summary | undefined> {
    try {
      return await askSummary(this.#options.admin);
    } catch {
      return undefined;
    }
  }

  async #ask(path: string): Promise<{ readonly status: number; readonly text: string }> {
    try {
      return await askAdmin(this.#options.admin, path);
    } catch (error) {
      const bypass = readBypass(this.#options.admin);
      const why = error instanceof AdminError ? error.message : String(error);
      return { status: 503, text: bypass === undefined ? why : bypassedText(bypass) };
    }
  }
}

function bypassedText({ since, why }: { readonly since: string; readonly why: string }): string {
  return `bypassed since ${since}: ${why}`;
}

function gauge(name: string, help: string, value: boolean | undefined): string {
  return `# HELP ${name} ${help}\n# TYPE ${name} gauge\n${name} ${value === undefined ? 'NaN' : Number(value)}`;
}

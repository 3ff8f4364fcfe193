/** A headless Chromium, driven by the DevTools protocol over a pipe: messages are JSON, each ended by a NUL byte. */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Readable, Writable } from 'node:stream';

const flags = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--hide-scrollbars',
  '--remote-debugging-pipe',
];

interface Message {
  readonly id?: number;
  readonly method?: string;
  readonly params?: unknown;
  readonly result?: unknown;
  readonly error?: { readonly message: string };
}

type Send = <Result>(method: string, params?: object) => Promise<Result>;

export interface View {
  readonly width: number;
  readonly height: number;
  readonly scheme: 'light' | 'dark';
  /** Pixels of the picture per pixel of the page; default 1. */
  readonly scale?: number;
}

export interface Page {
  /** Errors of the page and all that it wrote to the console. */
  readonly complaints: readonly string[];
  /** Addresses it asked for. */
  readonly requests: readonly string[];
  /** Loads a file with this view. */
  open(file: string, view: View): Promise<void>;
  evaluate<Result>(expression: string): Promise<Result>;
  click(selector: string): Promise<void>;
  /** @param key As in KeyboardEvent.key. */
  press(key: string): Promise<void>;
  /** A PNG of what is in view, or of the whole page. */
  screenshot(whole?: boolean): Promise<Buffer>;
}

/** Runs `use` with an empty page of a new browser. */
export async function withPage<Result>(chromium: string, use: (page: Page) => Promise<Result>): Promise<Result> {
  const directory = mkdtempSync(path.join(tmpdir(), 'chromium-'));
  const browser = spawn(chromium, [...flags, `--user-data-dir=${directory}`], {
    stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'],
    // A process group of its own: its children write to the directory for as long as they live.
    detached: true,
    env: { ...process.env, HOME: directory },
  });
  const ended = new Promise<void>((resolve) => browser.once('close', () => resolve()));
  try {
    const connection = new Connection(browser.stdio[3] as Writable, browser.stdio[4] as Readable);
    browser.once('error', (error) => connection.fail(error));
    browser.once('exit', (code) => connection.fail(new Error(`Chromium ended with ${code}`)));
    return await use(await newPage(connection));
  } finally {
    if (browser.pid !== undefined) killGroup(browser.pid);
    await ended;
    rmSync(directory, { recursive: true, force: true, maxRetries: 20 });
  }
}

function killGroup(leader: number): void {
  try {
    process.kill(-leader, 'SIGKILL');
  } catch (error) {
    // It has ended by itself.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

async function newPage(connection: Connection): Promise<Page> {
  const { targetId } = await connection.send<{ targetId: string }>('Target.createTarget', { url: 'about:blank' });
  const { sessionId } = await connection.send<{ sessionId: string }>('Target.attachToTarget', {
    targetId,
    flatten: true,
  });
  const send: Send = (method, params) => connection.send(method, params, sessionId);
  const complaints: string[] = [];
  const requests: string[] = [];
  connection.on('Runtime.exceptionThrown', (params) => complaints.push(JSON.stringify(params)));
  connection.on('Runtime.consoleAPICalled', (params) => complaints.push(JSON.stringify(params)));
  connection.on('Log.entryAdded', (params) => complaints.push(JSON.stringify(params)));
  connection.on('Network.requestWillBeSent', (params) =>
    requests.push((params as { request: { url: string } }).request.url),
  );
  for (const domain of ['Page', 'Runtime', 'Log', 'Network']) await send(`${domain}.enable`);

  const evaluate = async <Result>(expression: string): Promise<Result> => {
    const { result, exceptionDetails } = await send<{ result: { value: Result }; exceptionDetails?: object }>(
      'Runtime.evaluate',
      { expression, returnByValue: true, awaitPromise: true },
    );
    if (exceptionDetails !== undefined) throw new Error(JSON.stringify(exceptionDetails));
    return result.value;
  };
  return {
    complaints,
    requests,
    evaluate,
    async open(file, { width, height, scheme, scale = 1 }) {
      await send('Emulation.setDeviceMetricsOverride', { width, height, deviceScaleFactor: scale, mobile: false });
      await send('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value: scheme }] });
      const loaded = connection.once('Page.loadEventFired');
      await send('Page.navigate', { url: `file://${path.resolve(file)}` });
      await loaded;
    },
    async click(selector) {
      const at = await evaluate<{ x: number; y: number }>(`(() => {
        const element = document.querySelector(${JSON.stringify(selector)});
        element.scrollIntoView({ block: 'center' });
        const { x, y, width, height } = element.getBoundingClientRect();
        return { x: x + width / 2, y: y + height / 2 };
      })()`);
      const press = { ...at, button: 'left', clickCount: 1 };
      await send('Input.dispatchMouseEvent', { type: 'mouseMoved', ...at });
      await send('Input.dispatchMouseEvent', { type: 'mousePressed', ...press });
      await send('Input.dispatchMouseEvent', { type: 'mouseReleased', ...press });
    },
    async press(key) {
      const keys: Record<string, number> = {
        Tab: 9,
        End: 35,
        Home: 36,
        ArrowLeft: 37,
        ArrowUp: 38,
        ArrowRight: 39,
        ArrowDown: 40,
      };
      const event = { key, code: key, windowsVirtualKeyCode: keys[key] ?? 0 };
      await send('Input.dispatchKeyEvent', { type: 'keyDown', ...event });
      await send('Input.dispatchKeyEvent', { type: 'keyUp', ...event });
    },
    async screenshot(whole = false) {
      const { data } = await send<{ data: string }>('Page.captureScreenshot', { captureBeyondViewport: whole });
      return Buffer.from(data, 'base64');
    },
  };
}

class Connection {
  readonly #output: Writable;
  readonly #answers = new Map<number, (message: Message) => void>();
  readonly #listeners = new Map<string, Set<(params: unknown) => void>>();
  #lastId = 0;
  #failure: Error | undefined;

  constructor(output: Writable, input: Readable) {
    this.#output = output;
    output.on('error', (error) => this.fail(error));
    let rest = '';
    input.setEncoding('utf8').on('data', (text: string) => {
      const messages = (rest + text).split('\0');
      rest = messages.pop() ?? '';
      for (const message of messages) this.#take(JSON.parse(message));
    });
  }

  #take(message: Message): void {
    if (message.id !== undefined) this.#answers.get(message.id)?.(message);
    else for (const listener of this.#listeners.get(message.method ?? '') ?? []) listener(message.params);
  }

  async send<Result>(method: string, params: object = {}, sessionId?: string): Promise<Result> {
    if (this.#failure) throw this.#failure;
    const id = ++this.#lastId;
    const answer = new Promise<Message>((resolve) => this.#answers.set(id, resolve));
    this.#output.write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    const { result, error } = await answer;
    this.#answers.delete(id);
    if (error) throw new Error(`${method}: ${error.message}`);
    return result as Result;
  }

  on(method: string, listener: (params: unknown) => void): void {
    const listeners = this.#listeners.get(method) ?? new Set();
    this.#listeners.set(method, listeners.add(listener));
  }

  once(method: string): Promise<void> {
    return new Promise((resolve) => this.on(method, () => resolve()));
  }

  /** Ends every call that waits, and those to come. */
  fail(error: Error): void {
    this.#failure ??= error;
    for (const answer of this.#answers.values()) answer({ error: { message: this.#failure.message } });
  }
}

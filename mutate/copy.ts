/** A compiled copy of the project in a temporary folder, in which one file at a time is broken and tests are run. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdtempSync, readFileSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { compile, compileAll, compiled } from './compiled.js';

/** A part of a file, in characters from its begin, and what stands there instead. */
export interface Change {
  readonly file: string;
  readonly start: number;
  readonly end: number;
  readonly to: string;
}

/** What is not copied: of other programs, or made by a build. */
const left = new Set(['node_modules', '.git', '.mutate', '.tap', '.ci', 'dist']);

/** A test file that takes longer hangs, in ms. */
const timeoutMs = 90_000;

export class BrokenCopy {
  readonly #folder = mkdtempSync(path.join(tmpdir(), 'hf-mutate-'));

  constructor() {
    cpSync('.', this.#folder, { recursive: true, filter: (source) => !left.has(path.relative('.', source)) });
    symlinkSync(realpathSync('node_modules'), path.join(this.#folder, 'node_modules'));
    compileAll(this.#folder);
  }

  /** @returns Whether a test failed with the change. */
  async notices({ file, start, end, to }: Change, tests: readonly string[]): Promise<boolean> {
    const broken = path.join(this.#folder, compiled(file));
    const working = readFileSync(broken);
    const whole = readFileSync(file, 'utf8');
    writeFileSync(broken, compile(whole.slice(0, start) + to + whole.slice(end)));
    const noticed = (await this.firstFailing(tests)) !== undefined;
    writeFileSync(broken, working);
    return noticed;
  }

  async firstFailing(tests: readonly string[]): Promise<string | undefined> {
    for (const test of tests) if (!(await this.#passes(test))) return test;
    return undefined;
  }

  remove(): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async #passes(test: string): Promise<boolean> {
    const env = { ...process.env, TAP_BAIL: '1' };
    const run = spawn(process.execPath, [compiled(test)], {
      cwd: this.#folder,
      env,
      stdio: 'ignore',
      timeout: timeoutMs,
      // Of a test that turns in a loop nothing else gets through.
      killSignal: 'SIGKILL',
    });
    const [code] = await once(run, 'exit');
    return code === 0;
  }
}

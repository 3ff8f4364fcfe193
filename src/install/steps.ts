/** What `install` and `uninstall` say of each step: done, already so, or with --dry-run what they would do. */
export interface Output {
  write(text: string): unknown;
}

export class Steps {
  readonly dryRun: boolean;
  readonly #output: Output;
  /** Steps that changed something, or would. */
  changed = 0;
  /** Things that were left as they are, and said. */
  warnings = 0;

  constructor(output: Output, dryRun: boolean) {
    this.#output = output;
    this.dryRun = dryRun;
  }

  stage(name: string): void {
    this.#output.write(`${name}\n`);
  }

  already(text: string): void {
    this.#line('already so', text);
  }

  /** Says it once it is done. */
  async do(text: string, action: () => unknown): Promise<void> {
    this.changed += 1;
    if (!this.dryRun) await action();
    this.#line(this.dryRun ? 'would do' : 'done', text);
  }

  note(text: string): void {
    this.#line('', text);
  }

  /** Something that has to be done elsewhere. */
  later(text: string): void {
    this.#line('to do', text);
  }

  warn(text: string): void {
    this.warnings += 1;
    this.#line('warning', text);
  }

  #line(what: string, text: string): void {
    this.#output.write(`  ${what.padEnd(10)}  ${text}\n`);
  }
}

/** What `install` or `uninstall` will not do, and what to do instead. */
export class Refusal extends Error {
  override readonly name = 'Refusal';
  /** What whoever runs it can do. */
  readonly remedy: string;
  constructor(message: string, remedy: string) {
    super(message);
    this.remedy = remedy;
  }
}

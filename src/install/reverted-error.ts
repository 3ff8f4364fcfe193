/** What was changed did not do well, and was taken back. */
export class RevertedError extends Error {
  override readonly name = 'RevertedError';
}

/** A setting that is wrong, missing or unknown. The message is one line that names it and says what is allowed. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

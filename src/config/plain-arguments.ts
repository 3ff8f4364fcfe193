/**
 * Reads a command line that leaves no doubt, as a unit file has it: options with a value each. yargs would say the same and cost a
 * quarter of the start of `serve` and 10 MB; whatever it may see otherwise is left to it. Knows no option's meaning.
 */

/** No quotes, which yargs takes off, and no dash at the beginning, which may be an option. */
const plainValue = /^[^\s"'-][^\s"']*$/;

/**
 * @param args What comes after `serve`.
 * @param known Names of options that take one value.
 * @returns Values by name, as yargs gives them; undefined where one is unknown, given twice, has no plain value or is no option.
 */
export function plainArguments(
  args: readonly string[],
  known: readonly string[],
): Readonly<Record<string, string>> | undefined {
  const values = new Map<string, string>();
  const rest = args.values();
  for (const arg of rest) {
    const [, name = '', joined] = /^--([a-z-]+)(?:=(.*))?$/s.exec(arg) ?? [];
    const value = joined ?? rest.next().value;
    if (!known.includes(name) || values.has(name) || value === undefined || !plainValue.test(value)) return undefined;
    values.set(name, value);
  }
  return Object.fromEntries(values);
}

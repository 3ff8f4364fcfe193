/** What a process without rights may do, for tests that run as root. */

export const isRoot = process.geteuid?.() === 0;
export const nobody = 65_534;

/** Nothing but what is tested: a test that fails as nobody cannot say so, where its output may not be written by him. */
export async function asNobody<T>(run: () => Promise<T> | T): Promise<T> {
  process.seteuid?.(nobody);
  try {
    return await run();
  } finally {
    process.seteuid?.(0);
  }
}

/** Faults as a bug would make them: a method of a class throws. */

export interface Broken {
  /** How often it threw. */
  readonly times: number;
  mend(): void;
}

/**
 * @param prototype Of the class.
 * @param name A method, or a getter.
 * @param nth Which call throws, counted from 1; default: each, until it is mended.
 */
export function breakMethod(prototype: object, name: string, nth?: number): Broken {
  const whole = Object.getOwnPropertyDescriptor(prototype, name);
  if (whole === undefined) throw new RangeError(`nothing is called ${name}`);
  let calls = 0;
  const state = { times: 0, mend: () => void Object.defineProperty(prototype, name, whole) };
  const broken = (original: (...args: unknown[]) => unknown) =>
    function (this: unknown, ...args: unknown[]): unknown {
      calls += 1;
      if (nth === undefined || calls === nth) {
        state.times += 1;
        throw new TypeError(`${name} is broken`);
      }
      return original.apply(this, args);
    };
  const { value, get } = whole;
  Object.defineProperty(
    prototype,
    name,
    get === undefined ? { ...whole, value: broken(value) } : { ...whole, get: broken(get) },
  );
  return state;
}

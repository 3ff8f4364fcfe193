/** The configuration of somebody who gave nothing but the two sockets. */
import type { HoldfastConfig } from './config.js';
import { options } from './options.js';

type Defaults = Omit<HoldfastConfig, 'listen' | 'runtime'>;

export const defaults = Object.freeze(
  Object.fromEntries(
    Object.entries(options)
      .filter(([, option]) => option.required !== true)
      .map(([key, option]) => [key, option.default === undefined ? undefined : option.kind.parse(option.default)]),
  ),
) as Defaults;

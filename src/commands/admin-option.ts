/** The option by which commands are told where a running Holdfast is asked. */
import type { Argv } from 'yargs';
import { defaultAdminSocket } from '../admin/client.js';
import { ConfigError } from '../config/config-error.js';
import { endpoint } from '../config/kinds.js';

export function withAdminOption(yargs: Argv): Argv {
  return yargs.option('admin', {
    type: 'string',
    requiresArg: true,
    describe: 'Admin socket of the Holdfast to ask',
    defaultDescription: `unix://${defaultAdminSocket}`,
  });
}

/** @throws {ConfigError} It is no unix socket. */
export function adminSocketOf({ admin }: Readonly<Record<string, unknown>>): string {
  if (admin === undefined) return defaultAdminSocket;
  const path = typeof admin === 'string' ? endpoint.parse(admin) : undefined;
  if (path === undefined)
    throw new ConfigError(`--admin: ${JSON.stringify(admin)} is not allowed; give ${endpoint.allowed}`);
  return path;
}

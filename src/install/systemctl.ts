/** systemctl: what systemd says of a unit, and what it is told. */
import { complaint, type Machine } from './machine.js';
import { Refusal } from './refusal.js';

/** @returns Properties by name, as systemd sees the unit now; one that it does not know is empty. */
export async function unitState<const P extends string>(
  { run }: Pick<Machine, 'run'>,
  unit: string,
  ...properties: readonly P[]
): Promise<Record<P, string>> {
  const { stdout } = await run('systemctl', ['show', unit, `--property=${properties.join(',')}`]);
  const said = new Map(
    stdout.split('\n').map((line): [string, string] => {
      const at = line.indexOf('=');
      return [line.slice(0, at), line.slice(at + 1)];
    }),
  );
  return Object.fromEntries(properties.map((name) => [name, said.get(name) ?? ''])) as Record<P, string>;
}

/** @throws {Refusal} It failed. */
export async function systemctl({ run }: Pick<Machine, 'run'>, ...args: readonly string[]): Promise<void> {
  const ran = await run('systemctl', args);
  if (ran.code !== 0) {
    throw new Refusal(`systemctl ${args.join(' ')}: ${complaint(ran)}`, 'put that right, and run this again');
  }
}

/**
 * Starts a service that may have reached its start limit, or starts it anew. The limit is forgotten first, which ends a socket that
 * another service uses meanwhile, unless systemd has been reloaded: that the limit was reached is not kept over a reload (systemd 252;
 * of later ones unit_serialize_state() says the same). How many starts it has had is kept by some, hence the reset.
 */
export async function startAnew(machine: Machine, action: 'start' | 'restart', service: string): Promise<void> {
  await systemctl(machine, 'daemon-reload');
  await machine.run('systemctl', ['reset-failed', service]);
  await systemctl(machine, action, service);
}

/** How many may wait at a listening socket of this process before anybody is refused. */
import { once } from 'node:events';
import { connect } from 'node:net';
import { soon } from './soon.js';

/** More than Node's own 511 let wait. */
const many = 600;

/**
 * Connects many times in one turn of the event loop, so that none is accepted in between.
 *
 * @returns The errors of those that were refused.
 */
export async function refusedOf(path: string): Promise<Error[]> {
  const refused: Error[] = [];
  const clients = Array.from({ length: many }, () => connect(path));
  await soon(
    Promise.all(
      clients.map((client) =>
        once(client, 'connect').then(
          () => client.destroy(),
          (error) => refused.push(error),
        ),
      ),
    ),
  );
  return refused;
}

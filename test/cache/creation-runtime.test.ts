import t from 'tap';
import { NameReservedError } from '../../src/cache/creation-runtime.js';

t.test('that a name is taken is told as the runtime said it', async (t) => {
  const said = new Error('name "app" is reserved for "c0"');
  const error = new NameReservedError(said, 'c0');
  t.match(error, { name: 'NameReservedError', message: said.message, holderId: 'c0' });
  t.equal(error.cause, said);
});

/** What a call asks for by id, or the status it fails with. */
import { status } from '@grpc/grpc-js';
import { UnknownIdError } from './node-state.js';
import { StatusError } from './work.js';

/** @throws {StatusError} With `code` where there is none, UNKNOWN where the id is empty or there are several. */
export function findOr<T>(code: number, text: string, find: () => T): T {
  try {
    return find();
  } catch (error) {
    if (!(error instanceof UnknownIdError)) throw error;
    throw new StatusError(error.isUnknown ? code : status.UNKNOWN, `${text}: ${error.message}`);
  }
}

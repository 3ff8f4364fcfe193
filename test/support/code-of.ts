import * as grpc from '@grpc/grpc-js';

/** The gRPC status code that a call ends with. */
export async function codeOf(call: Promise<unknown>): Promise<number | undefined> {
  try {
    await call;
    return grpc.status.OK;
  } catch (error) {
    return (error as grpc.ServiceError).code;
  }
}

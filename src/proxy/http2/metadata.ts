/** Which header fields of a gRPC call are its metadata. */

/** gRPC's own, and not the application's (grpc/doc/PROTOCOL-HTTP2.md). */
const reservedNames = new Set([
  'content-type',
  'te',
  'user-agent',
  'grpc-timeout',
  'grpc-encoding',
  'grpc-accept-encoding',
  'grpc-message-type',
  'grpc-status',
  'grpc-message',
]);

/** @param name In lower case. */
export function isCustomMetadata(name: string): boolean {
  return !name.startsWith(':') && !reservedNames.has(name);
}

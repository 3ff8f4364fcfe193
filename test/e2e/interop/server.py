"""The server of the interop tests on gRPC C-core: serves SOCKET as any-backend.ts does until stdin ends."""
import collections
import concurrent.futures
import hashlib
import sys
import threading

import grpc

OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_metadata_size", 128 * 1024),
]
LOSS = "lost: ü%\n" * 100


def field(number, value):
    """A protobuf field of bytes, fewer than 2 ** 14."""
    return bytes([number << 3 | 2, len(value) & 0x7F | 0x80, len(value) >> 7]) + value


# google.rpc.Status with a google.protobuf.Any in it.
STATUS = b"\x08\x0f" + field(2, LOSS.encode()) + field(3, field(1, b"nowhere/v7.Detail") + field(2, b"\x05" * 13_000))

departures = collections.defaultdict(threading.Event)
departures_lock = threading.Lock()


def departure(context):
    """Set when the call that hangs with this key has been left."""
    (key,) = asked(context, "x-key")
    with departures_lock:
        return departures[key]


def asked(context, name):
    return [value for found, value in context.invocation_metadata() if found == name]


def begin(context):
    if asked(context, "x-gzip"):
        context.set_compression(grpc.Compression.Gzip)
    answer = [("x-seen", value) for value in asked(context, "x-asked")]
    answer += [("x-seen-bin", value) for value in asked(context, "x-asked-bin")]
    answer += [("x-agent", value) for value in asked(context, "user-agent")]
    remaining = context.time_remaining()
    # Without a deadline it is the end of time.
    if remaining is not None and remaining < 1e9:
        answer.append(("x-timeout-ms", str(int(remaining * 1000))))
    context.send_initial_metadata(answer)


def end(context):
    trailers = [("x-last", "trailer")]
    long, fail = asked(context, "x-long"), asked(context, "x-fail")
    if long:
        trailers.append(("x-last-bin", b"\xfa" * 6_000))
    if long and fail:
        trailers.append(("grpc-status-details-bin", STATUS))
    context.set_trailing_metadata(trailers)
    if fail:
        context.abort(grpc.StatusCode.DATA_LOSS, LOSS)


def unary(answer):
    def handle(request, context):
        end(context)
        begin(context)
        return answer(request, context)

    return grpc.unary_unary_rpc_method_handler(handle)


def client_stream(requests, context):
    message = b"".join(requests)
    end(context)
    begin(context)
    return message


def server_stream(request, context):
    begin(context)
    yield request
    yield request
    end(context)


def bidi(requests, context):
    begin(context)
    yield from requests
    end(context)


def hang(_request, context):
    gone = threading.Event()
    if not context.add_callback(gone.set):
        gone.set()
    begin(context)
    gone.wait()
    departure(context).set()
    yield from ()


def left(request, context):
    departure(context).wait(context.time_remaining())
    return request


def run_pod_sandbox(request, _context):
    return b"\x0a\x40" + hashlib.sha256(request).hexdigest().encode()


HANDLERS = {
    "clientStream": grpc.stream_unary_rpc_method_handler(client_stream),
    "serverStream": grpc.unary_stream_rpc_method_handler(server_stream),
    "bidi": grpc.stream_stream_rpc_method_handler(bidi),
    "hang": grpc.unary_stream_rpc_method_handler(hang),
    "left": unary(left),
    "RunPodSandbox": unary(run_pod_sandbox),
    "PodSandboxStatus": unary(lambda _request, _context: b"\x0a\x00"),
}
ECHO = unary(lambda request, _context: request)


class AnyMethod(grpc.GenericRpcHandler):
    def service(self, handler_call_details):
        return HANDLERS.get(handler_call_details.method.rsplit("/", 1)[-1], ECHO)


if __name__ == "__main__":
    workers = concurrent.futures.ThreadPoolExecutor(max_workers=64)
    server = grpc.server(workers, handlers=[AnyMethod()], options=OPTIONS)
    server.add_insecure_port(f"unix:{sys.argv[1]}")
    server.start()
    sys.stdin.read()
    server.stop(None).wait()

"""The client of the interop tests on gRPC C-core: makes the calls described in JSON on stdin (any-client.ts: AnyCalls) to SOCKET
and prints what it saw of them as one line of JSON."""
import base64
import collections
import concurrent.futures
import hashlib
import json
import sys

import grpc

OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_metadata_size", 128 * 1024),
]
PATTERN = bytes(range(251))


def message(described):
    """The given bytes, or a number of bytes of the pattern."""
    if isinstance(described, str):
        return base64.b64decode(described)
    return (PATTERN * (described // len(PATTERN) + 1))[:described]


def outgoing(fields):
    return [(name, base64.b64decode(value) if name.endswith("-bin") else value) for name, value in fields]


def printable(metadata):
    values = collections.defaultdict(list)
    for name, value in metadata or ():
        values[name].append(base64.b64encode(value).decode() if name.endswith("-bin") else value)
    return values


def start(channel, call):
    path, shape = call["path"], call["shape"]
    messages = map(message, call["messages"])
    timeout = call["timeoutMs"] / 1000 if "timeoutMs" in call else None
    options = {"timeout": timeout, "metadata": outgoing(call.get("metadata", []))}
    if shape == "unary":
        return channel.unary_unary(path).future(next(messages), **options)
    if shape == "clientStream":
        return channel.stream_unary(path).future(messages, **options)
    if shape == "serverStream":
        return channel.unary_stream(path)(next(messages), **options)
    return channel.stream_stream(path)(messages, **options)


def make(channel, call):
    rpc = start(channel, call)
    if call.get("cancel"):
        rpc.initial_metadata()
        rpc.cancel()
    received = []
    try:
        for answer in [rpc.result()] if call["shape"] in ("unary", "clientStream") else rpc:
            received.append([len(answer), hashlib.sha256(answer).hexdigest()])
    except grpc.RpcError:
        pass
    return {
        "messages": received,
        "metadata": printable(rpc.initial_metadata()),
        "code": rpc.code().value[0],
        "details": rpc.details(),
        "trailers": printable(rpc.trailing_metadata()),
    }


if __name__ == "__main__":
    wanted = json.load(sys.stdin)
    options = OPTIONS + ([("grpc.default_authority", wanted["authority"])] if "authority" in wanted else [])
    compression = grpc.Compression.Gzip if wanted.get("gzip") else None
    with grpc.insecure_channel(f"unix:{sys.argv[1]}", options, compression) as channel:
        with concurrent.futures.ThreadPoolExecutor(max_workers=wanted["parallel"]) as workers:
            print(json.dumps(list(workers.map(lambda call: make(channel, call), wanted["calls"]))))

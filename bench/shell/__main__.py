"""How many streamed tokens a second the parent passes on with one core, and what it
adds before the first.

Usage: python -m bench.shell [ROUNDS] [--ndjson] [--websocket]
The worker has every token at once, so that all time is the parent's; it runs on one
CPU, worker and clients on another. Clients read their sockets raw and count the chunks.
Prints the median and the spread of the rounds; the parent's processor time for each
token says more than tokens/s where the machine does other work too. First tokens are
measured on new connections, on one that is kept, and on one that is kept by a server
that leaves Nagle's algorithm on (without TCP_NODELAY). With `--ndjson` the streams are those
of Ollama's `/api/chat` too, with `--websocket` those of `/v1/stream`: on a WebSocket each, and
all on one; round by round in turns, and without first tokens.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import selectors
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psutil

from bench.shell.websocket_stream import SocketOfStreams

_NUM_STREAMS, _TOKENS_EACH = 32, 600
_ALONE_TOKENS = 3000
_NUM_FIRSTS = 100
_START_S = 30.0
_CHUNK = b'"content":" word"'
_END = b"\r\n0\r\n\r\n"


@dataclass(frozen=True)
class Endpoint:
    """A chat that is streamed in the body of a response."""

    path: str
    limit: Callable[[int], dict[str, Any]]  # the fields that ask for so many tokens
    record_end: bytes
    done: bytes  # in the last record


SSE = Endpoint("/v1/chat/completions", lambda num: {"max_tokens": num}, b"\n\n", b"data: [DONE]")
NDJSON = Endpoint(
    "/api/chat", lambda num: {"options": {"num_predict": num}}, b"}\n", b'"done":true'
)

_BODIES = {"sse": SSE, "ndjson": NDJSON}


class Stream:
    """One streamed chat, on a connection of its own unless it is given one."""

    def __init__(
        self,
        port: int,
        num_tokens: int,
        kept: socket.socket | None = None,
        endpoint: Endpoint = SSE,
    ) -> None:
        self._endpoint = endpoint
        self.num_chunks = 0
        self.expected_chunks = num_tokens
        self.is_done = False
        self._is_ending = False
        self._tail = b""
        message = {"role": "user", "content": "Hello"}
        asked = {"messages": [message], "stream": True, **endpoint.limit(num_tokens)}
        body = json.dumps(asked).encode()
        head = (
            f"POST {endpoint.path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            "Content-Type: application/json\r\n"
        )
        self.request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        self.socket = kept or connection_to(port)

    def send(self) -> None:
        self.socket.sendall(self.request)

    def receive(self) -> None:
        data = self.socket.recv(1 << 18)
        if not data:
            raise ConnectionError(
                f"the server closed a stream after {self.num_chunks} tokens: {self._tail!r}"
            )
        text = self._tail + data
        self.num_chunks += text.count(_CHUNK)
        record_end = self._endpoint.record_end
        cut = text.rfind(record_end) + len(record_end) if record_end in text else 0
        self._is_ending = self._is_ending or self._endpoint.done in text
        self.is_done = self._is_ending and text.endswith(_END)
        counted = text.rfind(_CHUNK) + len(_CHUNK) if _CHUNK in text else 0
        self._tail = text[max(cut, counted) :]


def connection_to(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port))


@contextlib.contextmanager
def parent(cpus: list[int], *, nagle: bool = False) -> Iterator[tuple[int, psutil.Process]]:
    """Its port and its process."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "bench.shell.parent",
        str(port),
        str(cpus[0]),
        str(cpus[1]),
        *(["nagle"] if nagle else []),
    ]
    process = subprocess.Popen(command)
    try:
        _await_health(process, port)
        yield port, psutil.Process(process.pid)
    finally:
        process.kill()
        process.wait()


def _await_health(process: subprocess.Popen[bytes], port: int) -> None:
    deadline_s = time.monotonic() + _START_S
    while time.monotonic() < deadline_s and process.poll() is None:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port)) as connection,
        ):
            connection.sendall(f"GET /health HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
            if b" 200 " in connection.recv(1 << 16)[:20]:
                return
        time.sleep(0.1)
    raise RuntimeError("the server did not become ready")


def tokens_per_s(port: int, num_streams: int, num_tokens: int, kind: str = "sse") -> float:
    """Of all streams together, from the first request to the last token."""
    streams: list[Stream] | list[SocketOfStreams]
    if kind in _BODIES:
        streams = [Stream(port, num_tokens, endpoint=_BODIES[kind]) for _ in range(num_streams)]
    elif kind == "websockets":
        streams = [SocketOfStreams(port, num_tokens) for _ in range(num_streams)]
    else:
        streams = [SocketOfStreams(port, num_tokens, num_streams)]
    selector = selectors.DefaultSelector()
    for stream in streams:
        selector.register(stream.socket, selectors.EVENT_READ, stream)
    started_s = time.perf_counter()
    for stream in streams:
        stream.send()
    while not all(stream.is_done for stream in streams):
        for key, _ in selector.select():
            key.data.receive()
            if key.data.is_done:
                selector.unregister(key.fileobj)
    elapsed_s = time.perf_counter() - started_s
    for stream in streams:
        assert stream.num_chunks == stream.expected_chunks, stream.num_chunks
        stream.socket.close()
    return num_streams * num_tokens / elapsed_s


def first_token_ms(port: int, *, is_kept: bool) -> list[float]:
    """From a request to its first token, one after the other, each on a connection that
    is there already: the same one where it `is_kept`.
    """
    kept = connection_to(port) if is_kept else None
    times_ms = []
    for _ in range(_NUM_FIRSTS):
        stream = Stream(port, 1, kept)
        started_s = time.perf_counter()
        stream.send()
        while not stream.num_chunks:
            stream.receive()
        times_ms.append(1000 * (time.perf_counter() - started_s))
        while not stream.is_done:
            stream.receive()
        if not is_kept:
            stream.socket.close()
    if kept is not None:
        kept.close()
    return times_ms


@dataclass(frozen=True)
class Throughput:
    tokens_per_s: float
    parent_us: float  # of its processor time, for each token

    @classmethod
    def measured(
        cls, port: int, process: psutil.Process, num_streams: int, each: int, kind: str
    ) -> Throughput:
        before_s = sum(process.cpu_times()[:2])
        rate = tokens_per_s(port, num_streams, each, kind)
        used_s = sum(process.cpu_times()[:2]) - before_s
        return cls(rate, 1e6 * used_s / (num_streams * each))


def main(argv: list[str]) -> None:
    numbers = [each for each in argv if not each.startswith("--")]
    num_rounds = int(numbers[0]) if numbers else 5
    kinds = [
        "sse",
        *(["ndjson"] if "--ndjson" in argv else []),
        *(["websockets", "one websocket"] if "--websocket" in argv else []),
    ]
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        sys.exit("This benchmark needs two CPUs, one of them for the parent alone.")
    os.sched_setaffinity(0, {cpus[1]})
    with parent(cpus) as (port, process):
        # not counted: everything is imported by then
        tokens_per_s(port, _NUM_STREAMS, _TOKENS_EACH // 4, kinds[0])
        sizes = ((_NUM_STREAMS, _TOKENS_EACH), (1, _ALONE_TOKENS))
        rounds_of: dict[tuple[str, int, int], list[Throughput]] = {}
        for _, kind, (num_streams, each) in itertools.product(range(num_rounds), kinds, sizes):
            measured = Throughput.measured(port, process, num_streams, each, kind)
            rounds_of.setdefault((kind, num_streams, each), []).append(measured)
        for (kind, num_streams, _), rounds in rounds_of.items():
            rates = _spread([each.tokens_per_s for each in rounds], 0)
            print(
                f"{num_streams} streams ({kind}): {rates} tokens/s, "
                f"{_spread([r.parent_us for r in rounds], 1)} us of the parent for each token"
            )
        if kinds != ["sse"]:
            return
        _print_first("a new connection", first_token_ms(port, is_kept=False))
        _print_first("a kept connection", first_token_ms(port, is_kept=True))
    with parent(cpus, nagle=True) as (port, _):
        _print_first("a kept connection, without TCP_NODELAY", first_token_ms(port, is_kept=True))


def _print_first(where: str, times_ms: list[float]) -> None:
    median, slow = statistics.median(times_ms), sorted(times_ms)[90]
    print(f"first token on {where}: {median:.2f} ms (90 of 100 under {slow:.2f})")


def _spread(values: list[float], digits: int) -> str:
    low, median, high = (
        f"{value:,.{digits}f}" for value in (min(values), statistics.median(values), max(values))
    )
    return f"{median} ({low} to {high})"


if __name__ == "__main__":
    main(sys.argv[1:])

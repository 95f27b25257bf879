"""How many streamed tokens a second the parent passes on with one core, and what it
adds before the first.

Usage: python -m bench.shell [ROUNDS]
The worker has every token at once, so that all time is the parent's; it runs on one
CPU, worker and clients on another. Clients read their sockets raw and count the chunks.
Prints the median and the spread of the rounds.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

_NUM_STREAMS, _TOKENS_EACH = 32, 600
_ALONE_TOKENS = 3000
_NUM_FIRSTS = 100
_START_S = 30.0
_CHUNK = b'"content":" word"'
_DONE = b"data: [DONE]"


class Stream:
    """One streamed chat on a connection of its own."""

    def __init__(self, port: int, num_tokens: int) -> None:
        self.num_chunks = 0
        self.is_done = False
        self._tail = b""
        message = {"role": "user", "content": "Hello"}
        body = json.dumps(
            {"messages": [message], "max_tokens": num_tokens, "stream": True}
        ).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            "Content-Type: application/json\r\n"
        )
        self.request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        self.socket = socket.create_connection(("127.0.0.1", port))

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
        cut = text.rfind(b"\n\n") + 2 if b"\n\n" in text else 0
        self.is_done = _DONE in text
        self._tail = text[max(cut, text.rfind(_CHUNK) + len(_CHUNK)) :]


@contextlib.contextmanager
def parent(port: int, parent_cpu: int, worker_cpu: int) -> Iterator[None]:
    command = [
        sys.executable,
        "-m",
        "bench.shell.parent",
        str(port),
        str(parent_cpu),
        str(worker_cpu),
    ]
    process = subprocess.Popen(command)
    try:
        _await_health(process, port)
        yield
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


def tokens_per_s(port: int, num_streams: int, num_tokens: int) -> float:
    """Of all streams together, from the first request to the last token."""
    streams = [Stream(port, num_tokens) for _ in range(num_streams)]
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
        assert stream.num_chunks == num_tokens, stream.num_chunks
        stream.socket.close()
    return num_streams * num_tokens / elapsed_s


def first_token_ms(port: int) -> list[float]:
    """From a request to its first token, one after the other, each on a new connection
    that is there already.
    """
    times_ms = []
    for _ in range(_NUM_FIRSTS):
        stream = Stream(port, 1)
        started_s = time.perf_counter()
        stream.send()
        while not stream.num_chunks:
            stream.receive()
        times_ms.append(1000 * (time.perf_counter() - started_s))
        while not stream.is_done:
            stream.receive()
        stream.socket.close()
    return times_ms


def main(argv: list[str]) -> None:
    num_rounds = int(argv[0]) if argv else 5
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        sys.exit("This benchmark needs two CPUs, one of them for the parent alone.")
    os.sched_setaffinity(0, {cpus[1]})
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    with parent(port, cpus[0], cpus[1]):
        # not counted: everything is imported by then
        tokens_per_s(port, _NUM_STREAMS, _TOKENS_EACH // 4)
        together = [tokens_per_s(port, _NUM_STREAMS, _TOKENS_EACH) for _ in range(num_rounds)]
        alone = [tokens_per_s(port, 1, _ALONE_TOKENS) for _ in range(num_rounds)]
        first = first_token_ms(port)
    print(f"{_NUM_STREAMS} streams: {_spread(together)} tokens/s together")
    print(f"1 stream: {_spread(alone)} tokens/s")
    print(
        f"first token: {statistics.median(first):.2f} ms (90 of 100 under {sorted(first)[90]:.2f})"
    )


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})"


if __name__ == "__main__":
    main(sys.argv[1:])

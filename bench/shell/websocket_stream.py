"""Streams of the benchmark that share WebSockets: counted as raw bytes, like those over
HTTP.

Knows no server.
"""

from __future__ import annotations

import json
import socket

_TOKEN = b'"content":" word"'
_DONE = b'"type":"done"'
_HANDSHAKE = (
    "GET /v1/stream HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\n"
    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class SocketOfStreams:
    """`num_streams` chats on one WebSocket."""

    def __init__(self, port: int, num_tokens: int, num_streams: int = 1) -> None:
        self.num_chunks = 0
        self.is_done = False
        self.expected_chunks = num_streams * num_tokens
        self._num_open = num_streams
        self._tail = b""
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.sendall(_HANDSHAKE.format(port=port).encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.socket.recv(1 << 12)
        assert b" 101 " in head, head
        body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": num_tokens}
        messages = [{"type": "chat", "id": at, "body": body} for at in range(num_streams)]
        self.request = b"".join(_frame(json.dumps(message).encode()) for message in messages)

    def send(self) -> None:
        self.socket.sendall(self.request)

    def receive(self) -> None:
        data = self.socket.recv(1 << 18)
        if not data:
            raise ConnectionError(f"the server closed a WebSocket after {self.num_chunks} tokens")
        text = self._tail + data
        self.num_chunks += text.count(_TOKEN)
        self._num_open -= text.count(_DONE)
        self.is_done = self._num_open == 0
        ends = [text.rfind(mark) + len(mark) for mark in (_TOKEN, _DONE) if mark in text]
        # a mark may be cut in two: neither is longer than this
        self._tail = text[max([*ends, len(text) - len(_TOKEN) + 1, 0]) :]


def _frame(payload: bytes) -> bytes:
    """One text message, masked with zeros (RFC 6455, 5.2)."""
    size = len(payload)
    assert 125 < size < 1 << 16 or size <= 125
    length = bytes([0x80 | size]) if size <= 125 else b"\xfe" + size.to_bytes(2, "big")
    return b"\x81" + length + bytes(4) + payload

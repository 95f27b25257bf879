"""Frames on a stream socket: a 4-byte little-endian length, then that many bytes.

Knows no messages.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading

_HEADER = struct.Struct("<I")
# far above any request the API lets in; a longer length means a corrupt stream
MAX_FRAME_BYTES = 256 << 20


class ChannelClosed(Exception):
    """The other end is gone, or sent something that is not a frame."""


class BlockingChannel:
    """The worker's end: any thread may send, one thread receives."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._reader = sock.makefile("rb")
        self._send_lock = threading.Lock()

    def send(self, data: bytes) -> None:
        """Raises `ChannelClosed` if the other end is gone."""
        with self._send_lock:
            try:
                self._sock.sendall(_HEADER.pack(len(data)) + data)
            except OSError as error:
                raise ChannelClosed from error

    def receive(self) -> bytes:
        """Waits for one frame. Raises `ChannelClosed` at the end of the stream."""
        return self._read(_frame_size(self._read(_HEADER.size)))

    def _read(self, size: int) -> bytes:
        try:
            data = self._reader.read(size)
        except OSError as error:
            raise ChannelClosed from error
        if len(data) < size:
            raise ChannelClosed
        return data


class AsyncChannel:
    """The parent's end, on an event loop."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, sock: socket.socket) -> AsyncChannel:
        return cls(*await asyncio.open_connection(sock=sock))

    def send(self, data: bytes) -> None:
        """Queues a frame; what cannot be delivered is noticed
        by `receive`, which then raises.
        """
        self._writer.write(_HEADER.pack(len(data)) + data)

    async def receive(self) -> bytes:
        """Waits for one frame. Raises `ChannelClosed` at the end of the stream."""
        try:
            return await self._reader.readexactly(
                _frame_size(await self._reader.readexactly(_HEADER.size))
            )
        except (asyncio.IncompleteReadError, OSError) as error:
            raise ChannelClosed from error

    async def close(self) -> None:
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except OSError:
            return  # the other end closed first, which is as good


def _frame_size(header: bytes) -> int:
    size: int = _HEADER.unpack(header)[0]
    if size > MAX_FRAME_BYTES:
        raise ChannelClosed
    return size

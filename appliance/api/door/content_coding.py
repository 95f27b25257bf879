"""Request bodies that are packed (`Content-Encoding`), unpacked as they arrive.

Knows no limit of its own but the number of parts: how much may come out is told with
every piece, so that a small body that unpacks to a huge one is never unpacked.
"""

from __future__ import annotations

import zlib
from typing import Any, Protocol

from appliance.api.door import zstd
from appliance.errors import BadRequest, UnknownCoding

TAKEN = "zstd, gzip, deflate" if zstd.IS_THERE else "gzip, deflate"
_MAX_MEMBERS = 1024  # of one body; each costs some microseconds, however little it holds
_GZIP, _ZLIB, _RAW = 31, 15, -15  # zlib's numbers of the three forms


class Unpacker(Protocol):
    def feed(self, data: bytes, room: int) -> bytes:
        """What comes out of this piece, but at most `room` bytes, a positive number; no
        more is fed where it was reached. Raises `BadRequest`.
        """

    def finish(self) -> None:
        """Raises `BadRequest` where the end is missing."""


def unpacker_of(content_encoding: str) -> Unpacker:
    """Raises `UnknownCoding`."""
    codings = [coding.strip().lower() for coding in content_encoding.split(",")]
    codings = [coding for coding in codings if coding not in ("", "identity")]
    if not codings:
        return _Plain()
    if codings in (["gzip"], ["x-gzip"]):
        return _Gzip()
    if codings == ["deflate"]:
        return _Deflate()
    if codings == ["zstd"] and zstd.IS_THERE:
        return _Zstd()
    shown = ", ".join(codings)[:100]
    raise UnknownCoding(
        f"A body with Content-Encoding '{shown}' is not taken. Send it as it is, or packed once, "
        f"with one of: {TAKEN}."
    )


class _Plain:
    def feed(self, data: bytes, room: int) -> bytes:
        return data[:room]

    def finish(self) -> None: ...


class _Gzip:
    """One or several members, one behind the other, and perhaps zeros at the end (RFC
    1952, 2.2; tape drives and `gzip -t` pad so).
    """

    def __init__(self) -> None:
        self._member: Any = None  # zlib's object; None between members
        self._num_members = 0

    def feed(self, data: bytes, room: int) -> bytes:
        unpacked = bytearray()
        while len(unpacked) < room:
            if self._member is None:
                data = data.lstrip(b"\0") if self._num_members else data
                if not data:
                    break
                self._begin_member()
            unpacked += _inflate(self._member, data, room - len(unpacked), "gzip")
            if not self._member.eof:
                break
            data, self._member = self._member.unused_data, None
        return bytes(unpacked)

    def _begin_member(self) -> None:
        self._num_members += 1
        if self._num_members > _MAX_MEMBERS:
            raise BadRequest(f"The body has more than {_MAX_MEMBERS} gzip members.")
        self._member = zlib.decompressobj(_GZIP)

    def finish(self) -> None:
        if self._member is not None:
            raise _truncated("gzip")


class _Zstd:
    """One or several frames, one behind the other (RFC 8878, 3.1)."""

    def __init__(self) -> None:
        self._frame: Any = None  # None between frames
        self._num_frames = 0

    def feed(self, data: bytes, room: int) -> bytes:
        unpacked = bytearray()
        while data and len(unpacked) < room:
            if self._frame is None:
                self._num_frames += 1
                if self._num_frames > _MAX_MEMBERS:
                    raise BadRequest(f"The body has more than {_MAX_MEMBERS} zstd frames.")
                self._frame = zstd.decompressor()
            try:
                unpacked += self._frame.decompress(data, room - len(unpacked))
            except zstd.error_type() as error:
                raise BadRequest(
                    "The body is not the zstd data that its Content-Encoding promises: "
                    f"{str(error).rstrip('.')}."
                ) from error
            if not self._frame.eof:
                break
            data, self._frame = self._frame.unused_data, None
        return bytes(unpacked)

    def finish(self) -> None:
        if self._frame is not None:
            raise _truncated("zstd")


class _Deflate:
    """zlib's form, which the word means (RFC 9110, 8.4.1.2), or the bare data, which
    many clients send.
    """

    def __init__(self) -> None:
        self._data: Any = None
        self._start = b""  # two bytes tell the forms apart

    def feed(self, data: bytes, room: int) -> bytes:
        if self._data is None:
            data = self._start = self._start + data
            if len(data) < 2:
                return b""
            is_zlib = data[0] & 0x0F == 8 and int.from_bytes(data[:2], "big") % 31 == 0
            self._data, self._start = zlib.decompressobj(_ZLIB if is_zlib else _RAW), b""
        behind = data if self._data.eof else b""
        unpacked = b"" if self._data.eof else _inflate(self._data, data, room, "deflate")
        if behind or self._data.unused_data:
            raise BadRequest("The body goes on behind the end of its deflate data.")
        return unpacked

    def finish(self) -> None:
        if self._start or (self._data is not None and not self._data.eof):
            raise _truncated("deflate")


def _inflate(decompressor: Any, data: bytes, room: int, name: str) -> bytes:
    try:
        unpacked: bytes = decompressor.decompress(data, room)
    except zlib.error as error:
        reason = str(error).rpartition(": ")[2]
        raise BadRequest(
            f"The body is not the {name} data that its Content-Encoding promises: {reason}."
        ) from error
    return unpacked


def _truncated(name: str) -> BadRequest:
    return BadRequest(f"The body ends in the midst of its {name} data.")

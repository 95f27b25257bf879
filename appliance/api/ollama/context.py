"""`context` of /api/generate: a conversation as whole numbers, which a client sends back
to go on with it.

Knows no model and no tokens: clients do not look into it, so it holds texts, and the
template is applied to the whole conversation as in a chat.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Literal

import msgspec

from appliance.errors import BadRequest

_BYTES = 3  # of each number
_MARK = 0x61_70_70  # no token of a vocabulary is likely to be followed by this checksum

Role = Literal["system", "user", "assistant"]
Turns = list[tuple[Role, str]]

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Turns).decode


def packed(turns: Turns) -> list[int]:
    data = _encode(turns)
    numbers = [
        int.from_bytes(data[at : at + _BYTES].ljust(_BYTES, b" "), "big")
        for at in range(0, len(data), _BYTES)
    ]
    return [_MARK, zlib.crc32(data) & 0x7FFF_FFFF, len(data), *numbers]


def unpacked(numbers: Sequence[int]) -> Turns:
    """Raises `BadRequest` for what was not made here."""
    if not numbers:
        return []
    try:
        mark, checksum, num_bytes, *rest = numbers
        data = b"".join(number.to_bytes(_BYTES, "big") for number in rest)[:num_bytes]
        if mark != _MARK or zlib.crc32(data) & 0x7FFF_FFFF != checksum:
            raise ValueError
        return _decode(data)
    except (ValueError, OverflowError) as error:  # msgspec's errors are such too
        raise BadRequest(
            "Invalid 'context': it is not one that this server sent. Leave it out, or use "
            "/api/chat and send the conversation's messages.",
            param="context",
        ) from error

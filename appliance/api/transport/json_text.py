"""JSON out of the bytes of a body, or in plain words why it is none.

Knows no field.
"""

from __future__ import annotations

from typing import Any

import msgspec

# What bodies begin with that are something else; the longer ones first.
_BEGINNINGS = (
    (b"\xff\xfe\0\0", "it is UTF-32; send it as UTF-8"),
    (b"\0\0\xfe\xff", "it is UTF-32; send it as UTF-8"),
    (b"\xff\xfe", "it is UTF-16; send it as UTF-8"),
    (b"\xfe\xff", "it is UTF-16; send it as UTF-8"),
    (
        b"\xef\xbb\xbf",
        "it begins with a byte-order mark (BOM), which JSON does not allow; save or send it as "
        "UTF-8 without BOM",
    ),
    (b"\x1f\x8b", "it is packed with gzip; send it with the header 'Content-Encoding: gzip'"),
    (
        b"\x28\xb5\x2f\xfd",
        "it is packed with zstd; send it with the header 'Content-Encoding: zstd'",
    ),
)


def decode(body: bytes) -> Any:
    """Raises `ValueError` whose text reads after "The body is not valid JSON: "."""
    try:
        return msgspec.json.decode(body)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except ValueError as error:
        raise ValueError(_reason(body) or str(error)) from error


def _reason(body: bytes) -> str | None:
    """None where only the parser knows."""
    for beginning, words in _BEGINNINGS:
        if body.startswith(beginning):
            return words
    if b"\0" in body[:2]:  # a character of ASCII in UTF-16 without a mark
        return "it is UTF-16 or UTF-32; send it as UTF-8"
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return (
            f"it is not UTF-8, for byte {error.start} is 0x{body[error.start]:02x}; send text "
            "as UTF-8, or escape it as \\u00e9"
        )
    return None

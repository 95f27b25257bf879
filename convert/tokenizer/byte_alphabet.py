"""The characters by which byte-level vocabularies write bytes. Knows no vocabularies.

Source: `bytes_to_unicode` of GPT-2's encoder: a byte that can be seen is itself, the others
are the characters from 256 on, in order.
"""

from __future__ import annotations


def _alphabet() -> tuple[str, ...]:
    seen = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return tuple(chr(byte) if byte in seen else chr(next(others)) for byte in range(256))


ALPHABET = _alphabet()  # by byte
_BYTES = {char: byte for byte, char in enumerate(ALPHABET)}


def as_text(piece: bytes) -> str:
    return "".join(ALPHABET[byte] for byte in piece)


def as_bytes(text: str) -> bytes:
    """Raises `KeyError` for a character that stands for no byte."""
    return bytes(_BYTES[char] for char in text)

"""API keys as texts: how one is made, told apart from others, and hashed.

Knows no file and nobody's name.

A key reads `ak-ID-SECRET`: eight characters by which its record is found, and which are
no secret, and 32 that are one, all of them random.

Source of scrypt: RFC 7914.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
from dataclasses import dataclass

PREFIX = "ak-"
_ALPHABET = string.ascii_letters + string.digits  # a double click selects a part of it
_ID_CHARS = 8
_SECRET_CHARS = 32  # 190 bits
_KEY = re.compile(rf"{PREFIX}([A-Za-z0-9]{{{_ID_CHARS}}})-[A-Za-z0-9]{{{_SECRET_CHARS}}}")

# 4 MiB and some 10 ms. Passwords need more, for they can be guessed; nobody guesses 190
# bits, and a server whose memory is planned has no 128 MiB for this.
COST = 1 << 12
_BLOCK_SIZE = 8
_SALT_BYTES = 16


@dataclass(frozen=True)
class KeyHash:
    """All that is kept of a key's secret."""

    salt: bytes
    digest: bytes
    cost: int  # scrypt's N


def new_key() -> str:
    return f"{PREFIX}{_random_text(_ID_CHARS)}-{_random_text(_SECRET_CHARS)}"


def key_id_of(key: str) -> str | None:
    """None where it is no key of ours."""
    match = _KEY.fullmatch(key)
    return match[1] if match else None


def hash_of(key: str) -> KeyHash:
    salt = secrets.token_bytes(_SALT_BYTES)
    return KeyHash(salt, _scrypt(key, salt, COST), COST)


def is_key_of(key: str, known: KeyHash) -> bool:
    """Takes milliseconds without the interpreter's lock: to be called in a thread."""
    return hmac.compare_digest(_scrypt(key, known.salt, known.cost), known.digest)


def _scrypt(key: str, salt: bytes, cost: int) -> bytes:
    max_bytes = 256 * _BLOCK_SIZE * cost  # twice of what it takes
    return hashlib.scrypt(
        key.encode(), salt=salt, n=cost, r=_BLOCK_SIZE, p=1, maxmem=max_bytes, dklen=32
    )


def _random_text(num_chars: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(num_chars))

"""Who may ask: API keys, of which only digests are kept.

Knows no models and no HTTP beyond one header's value.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from pathlib import Path

from appliance.errors import BadSettings, Unauthorized

_SCHEME = "bearer"


class Admission:
    """The keys that open this server; without any, everyone may ask."""

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._digests = tuple(_digest(key) for key in keys)

    @classmethod
    def from_file(cls, path: Path) -> Admission:
        """Reads one key per line; blank lines and lines starting with `#` are ignored.

        Raises `BadSettings` when the file cannot be read, holds no key, or holds one
        that no HTTP header can carry. A file without keys is refused because its owner
        meant to close the server, not to open it.
        """
        keys = read_keys(path)
        if not keys:
            raise BadSettings(
                f"The API key file {path} holds no key: write one per line, or "
                "leave out --api-key-file."
            )
        return cls(keys)

    @property
    def requires_key(self) -> bool:
        return bool(self._digests)

    def authorize(self, authorization: str | None) -> None:
        """Raises `Unauthorized` unless the value of an `Authorization` header is
        `Bearer` and one of the keys.
        """
        if not self._digests:
            return
        if authorization is None:
            raise Unauthorized(
                "This server needs an API key: send it as 'Authorization: Bearer KEY'."
            )
        scheme, _, key = authorization.strip().partition(" ")
        if scheme.lower() != _SCHEME:
            raise Unauthorized("The Authorization header must read 'Bearer KEY'.")
        if not self._is_known(key.strip()):
            raise Unauthorized("The API key is not one of this server's.")

    def _is_known(self, key: str) -> bool:
        digest = _digest(key)
        # Every digest is compared, each in constant time, so that the time taken tells
        # nothing about the keys.
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        return any(matches)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def read_keys(path: Path) -> list[str]:
    """The keys in a file, as `Admission.from_file` reads it. Raises `BadSettings`."""
    try:
        # a byte-order mark would become part of the first key
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BadSettings(f"The API key file {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise BadSettings(f"The API key file {path} is not a text file.") from error
    keys = []
    for number, line in enumerate(text.splitlines(), start=1):
        key = line.strip()
        if not key or key.startswith("#"):
            continue
        if not key.isascii() or not key.isprintable() or " " in key:
            raise BadSettings(
                f"Line {number} of the API key file {path} is no usable key: printable ASCII "
                "without spaces."
            )
        keys.append(key)
    return keys

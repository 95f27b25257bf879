"""The file of API keys that an administrator writes: one key per line.

Knows no database; of keys only digests are kept.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from pathlib import Path

from appliance.errors import BadSettings
from appliance.gateway.accounts.caller import FILE_KEY_PREFIX, Caller

_ID_CHARS = 8  # of a key's digest, in its caller's id: enough to tell keys apart


class FileKeys:
    """Keys without names and limits. A single one is an administrator's: where it is all
    that a server has, there is nobody else. Of several, none is.
    """

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._callers = _callers_of(map(_digest, keys))

    @classmethod
    def from_file(cls, path: Path) -> FileKeys:
        """Raises `BadSettings` when the file cannot be read, holds no key, or holds one
        that no HTTP header can carry. A file without keys is refused because its owner
        meant to close the server, not to open it.
        """
        keys = read_keys(path)
        if not keys:
            raise BadSettings(
                f"The API key file {path} holds no key. Write one key per line, or leave out "
                "--api-key-file."
            )
        return cls(keys)

    @classmethod
    def of_digests(cls, digests: Iterable[bytes]) -> FileKeys:
        """The keys of another process, which tells their `digests` alone."""
        found = cls()
        found._callers = _callers_of(digests)
        return found

    @property
    def digests(self) -> tuple[bytes, ...]:
        """SHA-256 of each."""
        return tuple(digest for digest, _ in self._callers)

    def __len__(self) -> int:
        return len(self._callers)

    def holder_of(self, key: str) -> Caller | None:
        digest = _digest(key)
        # Every digest is compared, each in constant time, so that the time taken
        # reveals nothing about the keys.
        matches = [caller for known, caller in self._callers if hmac.compare_digest(digest, known)]
        return matches[0] if matches else None


def _callers_of(digests: Iterable[bytes]) -> tuple[tuple[bytes, Caller], ...]:
    known = tuple(dict.fromkeys(digests))
    return tuple((digest, _caller_of(digest, is_admin=len(known) == 1)) for digest in known)


def _caller_of(digest: bytes, *, is_admin: bool) -> Caller:
    return Caller(f"{FILE_KEY_PREFIX}{digest.hex()[:_ID_CHARS]}", is_admin=is_admin)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def read_keys(path: Path) -> list[str]:
    """Blank lines and lines starting with `#` are ignored. Raises `BadSettings`."""
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
                f"Line {number} of the API key file {path} cannot be used as a key: a key is "
                "printable ASCII without spaces."
            )
        keys.append(key)
    return keys

"""Who may ask: API keys, of which only digests are kept.

Knows no models, and of HTTP what headers that carry keys hold.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from pathlib import Path

from appliance.errors import BadSettings, Unauthorized
from appliance.gateway.accounts.caller import ANONYMOUS, Caller

_SCHEME = "bearer"
_ID_CHARS = 8  # of a key's digest, in its caller's id: enough to tell keys apart


class Admission:
    """The keys that open this server; without any, everyone may ask."""

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._callers = tuple((digest, _caller_of(digest)) for digest in map(_digest, keys))

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
                f"The API key file {path} holds no key. Write one key per line, or leave out "
                "--api-key-file."
            )
        return cls(keys)

    @property
    def requires_key(self) -> bool:
        return bool(self._callers)

    def authorize(
        self, authorization: str | None, named_keys: Sequence[tuple[str, str]] = ()
    ) -> Caller:
        """Who asks with this value of an `Authorization` header, and with `named_keys`
        in headers of their own (name, key): whoever holds the key, or `ANONYMOUS` where
        no key is needed.

        Raises `Unauthorized` unless there is one of our keys, and no other one beside
        it. An `Authorization` that is not `Bearer` is a proxy's where a key is named.
        """
        if not self._callers:
            return ANONYMOUS
        sent = {name: key.strip() for name, key in named_keys if key.strip()}
        scheme, _, key = (authorization or "").strip().partition(" ")
        if scheme.lower() == _SCHEME and (key.strip() or not sent):
            sent["Authorization"] = key.strip()
        if not sent:
            raise Unauthorized(
                "This server needs an API key: send it as 'Authorization: Bearer KEY' or as "
                "'x-api-key: KEY'."
                if authorization is None
                else "The Authorization header must read 'Bearer KEY'."
            )
        if len(set(sent.values())) > 1:
            raise Unauthorized(
                f"The headers {' and '.join(sorted(sent))} hold different API keys. Send one."
            )
        caller = self._holder_of(next(iter(sent.values())))
        if caller is None:
            raise Unauthorized("The API key is not valid for this server.")
        return caller

    def _holder_of(self, key: str) -> Caller | None:
        digest = _digest(key)
        # Every digest is compared, each in constant time, so that the time taken
        # reveals nothing about the keys.
        matches = [caller for known, caller in self._callers if hmac.compare_digest(digest, known)]
        return matches[0] if matches else None


def _caller_of(digest: bytes) -> Caller:
    return Caller(f"key-{digest.hex()[:_ID_CHARS]}")


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
                f"Line {number} of the API key file {path} cannot be used as a key: a key is "
                "printable ASCII without spaces."
            )
        keys.append(key)
    return keys

"""Who may ask: whoever holds one of the keys that open this server.

Knows no models, and of HTTP what headers that carry keys hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from appliance.errors import Unauthorized
from appliance.gateway.accounts.caller import ANONYMOUS, Caller
from appliance.gateway.accounts.key_file import FileKeys
from appliance.gateway.accounts.keyring import Keyring

_SCHEME = "bearer"


class Admission:
    """Keys of a file, and those that were made here (`keyring`), which may come while
    the server runs; without any, everyone may ask.
    """

    def __init__(self, keys: Iterable[str] = (), keyring: Keyring | None = None) -> None:
        self._file_keys = FileKeys(keys)
        self._keyring = Keyring() if keyring is None else keyring

    @classmethod
    def from_file(cls, path: Path, keyring: Keyring | None = None) -> Admission:
        """Raises what `FileKeys.from_file` does."""
        admission = cls(keyring=keyring)
        admission._file_keys = FileKeys.from_file(path)
        return admission

    @property
    def requires_key(self) -> bool:
        """Also where all keys were revoked, or their file is gone: nobody opens a running
        server by that.
        """
        return self.requires_key_beside(self._file_keys)

    def requires_key_beside(self, keys: FileKeys) -> bool:
        """Whether a key would be asked for with these in place of the file's."""
        return bool(keys) or self._keyring.has_had_keys

    def take(self, keys: FileKeys) -> None:
        """These open the server from now on, in place of those that the file had."""
        self._file_keys = keys

    async def authorize(
        self, authorization: str | None, named_keys: Sequence[tuple[str, str]] = ()
    ) -> Caller:
        """Who asks with this value of an `Authorization` header, and with `named_keys`
        in headers of their own (name, key): whoever holds the key, or `ANONYMOUS` where
        no key is needed.

        Raises `Unauthorized` unless there is one of our keys, and no other one beside
        it, and what `Keyring.holder_of` raises. An `Authorization` that is not `Bearer` is
        a proxy's where a key is named.
        """
        if not self.requires_key:
            return ANONYMOUS
        key = _sent_key(authorization, named_keys)
        return self._file_keys.holder_of(key) or await self._keyring.holder_of(key)

    def present(self, caller: Caller) -> Caller:
        """The same one on the terms of now: a WebSocket may be older than they are.

        Raises `Unauthorized` where it would not be let in any more.
        """
        if caller is ANONYMOUS and self.requires_key:
            raise Unauthorized("This server needs an API key by now. Connect again with one.")
        return self._keyring.present(caller) or caller


def _sent_key(authorization: str | None, named_keys: Sequence[tuple[str, str]]) -> str:
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
    return next(iter(sent.values()))

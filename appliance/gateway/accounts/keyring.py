"""The keys that were made here, in memory: whose key is this?

Knows no file and no header. A key's slow hash is computed once; from then on it is known
by a digest that is worth nothing outside of this process.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Iterable

from appliance.errors import RateLimited, Unauthorized
from appliance.gateway.accounts.caller import Caller
from appliance.gateway.accounts.key_records import KeyRecord
from appliance.gateway.accounts.key_text import is_key_of, key_id_of
from appliance.gateway.accounts.meter import Meter
from appliance.gateway.accounts.used import Clocks

# For one key: who knows its first part may not have us hash all day.
WRONG_SECRETS_PER_MINUTE = 10


class Keyring:
    """Keys by their holders, as they were told last."""

    def __init__(
        self,
        records: Iterable[KeyRecord] = (),
        *,
        clocks: Clocks | None = None,
    ) -> None:
        self._clocks = clocks or Clocks()
        self._pepper = secrets.token_bytes(32)
        self._key_ids: dict[bytes, str] = {}  # by the digests of keys that were right
        self._wrong: dict[str, Meter] = {}  # by key id
        self.has_had_keys = False  # also where their file was moved away: that opens nothing
        self._hashing = asyncio.Lock()  # one at a time: each takes a core and 4 MiB
        self.replace(records)

    def replace(self, records: Iterable[KeyRecord]) -> None:
        """From now on these are all there are."""
        self._by_key_id = {record.key_id: record for record in records}
        self.has_had_keys = self.has_had_keys or bool(self._by_key_id)
        self._by_name = {record.name: record for record in self._by_key_id.values()}
        known = self._by_key_id
        self._key_ids = {
            digest: key_id for digest, key_id in self._key_ids.items() if key_id in known
        }
        self._wrong = {key_id: meter for key_id, meter in self._wrong.items() if key_id in known}

    async def holder_of(self, key: str) -> Caller:
        """Raises `Unauthorized` where it is no key of ours, or opens nothing any more, and
        `RateLimited` where its first part was sent with too many wrong ones.
        """
        digest = hmac.digest(self._pepper, key.encode(), "sha256")
        if digest not in self._key_ids:
            async with self._hashing:
                if digest not in self._key_ids:  # another request may have brought the same
                    await self._verify(key, digest)
        # it may be gone since it was verified
        record = self._by_key_id.get(self._key_ids.get(digest, ""))
        if record is None:
            raise _no_key_of_ours()
        record.check(self._clocks.unix_s())
        return record.caller

    def present(self, caller: Caller) -> Caller | None:
        """The same one on the terms of now; None where nobody here has this name.

        Raises `Unauthorized` where the key that it came with opens nothing any more.
        """
        record = self._by_name.get(caller.id)
        if record is None:
            return None
        # who is known by name alone, as whoever left something to be done, has no key
        if caller.key_id and record.key_id != caller.key_id:
            raise Unauthorized(f"The API key '{record.name}' was replaced by another one.")
        record.check(self._clocks.unix_s())
        return record.caller

    async def _verify(self, key: str, digest: bytes) -> None:
        key_id = key_id_of(key)
        record = self._by_key_id.get(key_id) if key_id is not None else None
        if record is None:
            raise _no_key_of_ours()
        wrong = self._wrong.setdefault(record.key_id, Meter())
        now_s = self._clocks.monotonic_s()
        wait_s = wrong.wait_s(1, WRONG_SECRETS_PER_MINUTE, now_s)
        if wait_s > 0:
            raise RateLimited.after(
                wait_s, "Keys that begin like this one were sent wrongly too often."
            )
        if not await asyncio.to_thread(is_key_of, key, record.hash):
            wrong.add(1, WRONG_SECRETS_PER_MINUTE, now_s)
            raise _no_key_of_ours()
        self._key_ids[digest] = record.key_id


def _no_key_of_ours() -> Unauthorized:
    return Unauthorized("The API key is not valid for this server.")

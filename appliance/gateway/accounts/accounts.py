"""Keys and quotas of a running server: a key that a command makes, changes or revokes
counts within a second, and one that an administrator does through the server at once.

Knows no request and no HTTP.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from appliance.errors import ApplianceError
from appliance.gateway.accounts.administration import KeyAdministration
from appliance.gateway.accounts.admission import Admission
from appliance.gateway.accounts.key_records import FILE_NAME
from appliance.gateway.accounts.key_store import KeysOnDisk, KeyStore
from appliance.gateway.accounts.keyring import Keyring
from appliance.gateway.accounts.quotas import Quotas
from appliance.gateway.accounts.used import Clocks

_log = logging.getLogger(__name__)

INTERVAL_S = 1.0  # between two looks at the file


class Accounts:
    """`admission` by the keys of a state folder and of a file, and `quotas`."""

    def __init__(
        self, state_dir: Path, key_file: Path | None = None, *, clocks: Clocks | None = None
    ) -> None:
        """Raises `BadDatabase` and `StorageFailed` where the keys that there are cannot be
        read, and `BadSettings` where it is `key_file` that cannot.
        """
        self._clocks = clocks or Clocks()
        path = state_dir / FILE_NAME
        self._store = KeyStore(path, lambda: self._clocks.day)
        self._is_failing = False
        self._refreshing = asyncio.Lock()  # one look at a time, or the file is opened twice
        self._keyring = Keyring(clocks=self._clocks)
        self.admission = (
            Admission(keyring=self._keyring)
            if key_file is None
            else Admission.from_file(key_file, self._keyring)
        )
        self.administration = KeyAdministration(path, clocks=self._clocks, on_changed=self.refresh)
        self.quotas = Quotas(on_day_tokens=self._store.add_day_tokens, clocks=self._clocks)
        if (found := self._store.read_first()) is not None:
            self._take_over(found, {})

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await self.refresh()
            await asyncio.sleep(INTERVAL_S)

    async def refresh(self) -> None:
        """What has changed in the file counts from now on. Where it cannot be read, what
        is known goes on counting, and that is logged once.
        """
        async with self._refreshing:
            settled = self.quotas.settled()
            try:
                found = await self._store.read_changed()
            except ApplianceError as error:
                if not self._is_failing:
                    _log.error("changed keys do not count for now: %s", error.message)
                self._is_failing = True
                return
            self._is_failing = False
            if found is not None:
                self._take_over(found, settled)

    async def close(self) -> None:
        """Returns when all is written down."""
        await self._store.close()

    def _take_over(self, found: KeysOnDisk, settled_before: dict[str, int]) -> None:
        self._keyring.replace(found.records)
        self.quotas.set_day_tokens(found.day, found.day_tokens, settled_before)

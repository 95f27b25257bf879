"""Keys that were made, without a file."""

from __future__ import annotations

from collections.abc import Mapping

from appliance.database.files import DatabaseFile, transaction
from appliance.gateway.accounts.key_records import (
    MIGRATIONS,
    KeyRecord,
    KeyTerms,
    all_keys,
    create_key,
    revoke_key,
    rotate_key,
)


class MadeKeys:
    """In memory; `keys` are by the names of their holders."""

    def __init__(self, terms: Mapping[str, KeyTerms]) -> None:
        self._connection = DatabaseFile(path=None, migrations=MIGRATIONS).connect()
        with transaction(self._connection):
            self.keys = {
                name: create_key(self._connection, name, of_one, 0.0)
                for name, of_one in terms.items()
            }

    @property
    def records(self) -> list[KeyRecord]:
        return all_keys(self._connection)

    def revoke(self, name: str) -> None:
        revoke_key(self._connection, name, 0.0)

    def rotate(self, name: str) -> str:
        return rotate_key(self._connection, name, 0.0)

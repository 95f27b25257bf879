"""Caches in memory, a clock that goes on when it is told to, and a model with a
fingerprint. Knows no process.
"""

from __future__ import annotations

import msgspec

from appliance.database.database import Database
from appliance.database.files import WhenDamaged
from appliance.gateway.answer_cache.entries import MIGRATIONS, CacheRules, Entries
from appliance.protocol.events import Event, Finished
from tests.api.scripted_client import ANSWER, INFO, ScriptedClient, Step

KNOWN = msgspec.structs.replace(INFO, fingerprint="file and kernels")


class Clock:
    now_s = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s


def entries_in_memory(
    *, lifetime_s: float = 60.0, max_bytes: int = 1 << 20, clock: Clock | None = None
) -> Entries:
    database = Database(None, MIGRATIONS, when_damaged=WhenDamaged.REFUSE)
    rules = CacheRules(lifetime_s=lifetime_s, max_bytes=max_bytes)
    return Entries(database, rules, clock or Clock())


def repeating(events: tuple[Event, ...] = ANSWER) -> tuple[Event, ...]:
    """An answer that comes again."""
    return tuple(
        msgspec.structs.replace(event, repeats=True) if isinstance(event, Finished) else event
        for event in events
    )


def client_of(*steps: Step) -> ScriptedClient:
    client = ScriptedClient(*(steps or repeating()))
    client.info = KNOWN
    return client

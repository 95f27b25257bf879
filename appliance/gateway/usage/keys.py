"""How each key was used today, and when last. Knows no terms of a key."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from appliance.gateway.usage.counts import Counts
from appliance.gateway.usage.tables import DAY_S, read_groups, read_last_used


@dataclass(frozen=True)
class KeyUse:
    """Of one key; the day is UTC's."""

    num_requests_today: int
    num_tokens_today: int  # of prompts and answers
    last_used_s: float  # since the epoch


def read_key_uses(connection: sqlite3.Connection, now_s: float) -> dict[str, KeyUse]:
    """By key, of what is written."""
    midnight_s = now_s // DAY_S * DAY_S
    today = {
        group.names["key"]: group.counts
        for group in read_groups(connection, ("key",), midnight_s, None)
    }
    return {
        key: _use(today.get(key, Counts()), last_used_s)
        for key, last_used_s in read_last_used(connection).items()
    }


def _use(today: Counts, last_used_s: float) -> KeyUse:
    return KeyUse(
        num_requests_today=today.requests,
        num_tokens_today=today.prompt_tokens + today.completion_tokens,
        last_used_s=last_used_s,
    )

"""What people are told of a key: terms, state and use, and of its secret nothing.

Knows no database and no HTTP.
"""

from __future__ import annotations

from dataclasses import fields
from enum import Enum

import msgspec

from appliance.gateway.accounts.caller import CallerLimits
from appliance.gateway.accounts.key_records import KeyRecord


class KeyState(Enum):
    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


class KeyDescription(msgspec.Struct, kw_only=True):
    """Times are seconds since the epoch; null is never, and of limits any number."""

    name: str
    key_id: str  # what a key begins with, behind `ak-`
    state: KeyState
    created_s: float
    rotated_s: float | None
    revoked_s: float | None
    expires_s: float | None
    priority: int
    is_admin: bool
    requests_per_minute: int | None
    tokens_per_minute: int | None
    tokens_per_day: int | None
    concurrent_requests: int | None
    models: tuple[str, ...] | None
    tokens_today: int


def state_of(record: KeyRecord, now_s: float) -> KeyState:
    if record.revoked_s is not None:
        return KeyState.REVOKED
    return KeyState.EXPIRED if record.is_expired(now_s) else KeyState.ACTIVE


def description_of(record: KeyRecord, tokens_today: int, now_s: float) -> KeyDescription:
    terms = record.terms
    limits = {each.name: getattr(terms.limits, each.name) for each in fields(CallerLimits)}
    return KeyDescription(
        name=record.name,
        key_id=record.key_id,
        state=state_of(record, now_s),
        created_s=record.created_s,
        rotated_s=record.rotated_s,
        revoked_s=record.revoked_s,
        expires_s=terms.expires_s,
        priority=terms.priority,
        is_admin=terms.is_admin,
        **limits,
        tokens_today=tokens_today,
    )

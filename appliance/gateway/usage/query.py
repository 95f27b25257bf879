"""What somebody asks about usage, from texts to a report.

Knows no HTTP and no command. A moment is a day of UTC's, or so long ago.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone

from appliance.durations import duration_s
from appliance.errors import BadRequest
from appliance.gateway.usage.report import FREE, Prices, UsageReport, usage_report
from appliance.gateway.usage.tables import DIMENSIONS, read_groups

DEFAULT_BY = "key,model"
BY_HELP = "by what usage is told apart: any of key, model and day, joined by commas"
SINCE_HELP = "a day such as 2026-11-01 (UTC), or how long ago, such as 7d or 12h"


@dataclass(frozen=True, kw_only=True)
class UsageQuery:
    """`since_s` is since the epoch; `key` is the only one that is looked at, None: all."""

    by: tuple[str, ...] = tuple(DEFAULT_BY.split(","))
    since_s: float = 0.0
    key: str | None = None
    prices: Prices = FREE

    @classmethod
    def of(
        cls,
        by: str,
        since: str | None,
        *,
        key: str | None,
        prices: Prices,
        now: Callable[[], float],
    ) -> UsageQuery:
        """Of texts. Raises `BadRequest` where one cannot be read."""
        return cls(
            by=_dimensions(by),
            since_s=0.0 if since is None else _moment_s(since, now()),
            key=key,
            prices=prices,
        )


def read_report(connection: sqlite3.Connection, query: UsageQuery) -> UsageReport:
    """Of what is written."""
    apart = tuple(dict.fromkeys((*query.by, "model")))  # each model has its own seconds
    groups = read_groups(connection, apart, query.since_s, query.key)
    models = read_groups(connection, ("model",), query.since_s, None)
    of_models = {group.names["model"]: group.counts for group in models}
    return usage_report(groups, query.by, of_models, query.prices)


def _dimensions(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if unknown := [name for name in names if name not in DIMENSIONS]:
        raise BadRequest(f"'by' is {BY_HELP} (got {unknown[0]!r}).", param="by")
    return names


def _moment_s(text: str, now_s: float) -> float:
    try:
        day = datetime.strptime(text.strip(), "%Y-%m-%d").replace(tzinfo=timezone.utc)
        return day.timestamp()
    except ValueError:
        pass
    try:
        ago_s = duration_s(text)
    except ValueError:
        ago_s = math.inf
    if math.isinf(ago_s):  # negative durations are for ever, which nobody means here
        raise BadRequest(f"'since' is {SINCE_HELP} (got {text[:40]!r}).", param="since")
    return max(0.0, now_s - ago_s)

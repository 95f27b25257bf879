"""What was used, by key, model or day, and what it cost: tokens times the seconds that each
took on this machine, times the price of an hour.

Knows no database: it is given what was counted.

An answer that was cut off has no time of its own: its tokens count as much as those of its
model's other requests took on average.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
from msgspec import UNSET, UnsetType

from appliance.gateway.usage.counts import COUNT_NAMES, Counts
from appliance.gateway.usage.tables import Group

_HOUR_S = 3600.0
_KWH_J = 3.6e6
_UNTOLD = frozenset({"untimed_prompt_tokens", "untimed_completion_tokens", "metered_s", "energy_j"})
_COUNTED = tuple(name for name in COUNT_NAMES if name not in _UNTOLD)


@dataclass(frozen=True, kw_only=True)
class Prices:
    """None where nobody said."""

    price_per_hour: float | None = None  # of this machine while it computes, in any currency
    watts: float | None = None  # that it takes then, for times when nobody measured it
    gco2_per_kwh: float | None = None  # grams of CO2 equivalents


FREE = Prices()


class UsageNumbers(msgspec.Struct, kw_only=True):
    """Times are in seconds in which a model computed."""

    requests: int
    failed: int  # of them: refused, or ended by an error; not those that clients stopped
    prompt_tokens: int
    cached_prompt_tokens: int  # of them, which cost nothing
    completion_tokens: int
    replayed_tokens: int  # of them, from the response cache, which cost nothing
    drafted_tokens: int
    accepted_draft_tokens: int
    prompt_s: float
    answer_s: float
    draft_s: float
    estimated_s: float  # of answers that were cut off, by their tokens
    machine_s: float  # all of these together
    cost: float | None  # null without a price
    energy_j: float | None  # null where the power was not known, nor given
    gco2e_g: float | None


class UsageRow(UsageNumbers, kw_only=True):
    """`key`, `model` and `day`, where they are told apart."""

    key: str | UnsetType = UNSET
    model: str | UnsetType = UNSET
    day: str | UnsetType = UNSET


class TokenSeconds(msgspec.Struct, kw_only=True):
    """What a token takes on this machine, as measured of all requests; null of none."""

    prompt: float | None  # computed, not from the cache
    completion: float | None  # drafts included
    drafted: float | None
    saved_by_cache_s: float  # what the prompts' cached tokens would have taken


class UsageReport(msgspec.Struct, kw_only=True):
    rows: list[UsageRow]
    total: UsageNumbers
    seconds_per_token: dict[str, TokenSeconds]  # by model
    price_per_hour: float | None
    gco2_per_kwh: float | None


def usage_report(
    groups: Iterable[Group], by: Sequence[str], of_models: Mapping[str, Counts], prices: Prices
) -> UsageReport:
    """`groups` are told apart by `by` and by model; `of_models` are all requests of each
    model, of whomever, which say what a token takes.
    """
    seconds = {model: token_seconds(counts) for model, counts in of_models.items()}
    found: dict[tuple[str, ...], list[Group]] = {}
    every: list[Group] = []
    for group in groups:
        found.setdefault(tuple(group.names[name] for name in by), []).append(group)
        every.append(group)
    rows = []
    for names, parts in sorted(found.items()):
        row = UsageRow(**msgspec.structs.asdict(_numbers(parts, seconds, prices)))
        for dimension, name in zip(by, names, strict=True):
            setattr(row, dimension, name)
        rows.append(row)
    return UsageReport(
        rows=rows,
        total=_numbers(every, seconds, prices),
        seconds_per_token={model: seconds[model] for model in sorted(seconds)},
        price_per_hour=prices.price_per_hour,
        gco2_per_kwh=prices.gco2_per_kwh,
    )


def token_seconds(counts: Counts) -> TokenSeconds:
    """Of one model's requests."""
    num_computed = counts.prompt_tokens - counts.cached_prompt_tokens - counts.untimed_prompt_tokens
    num_completion = counts.completion_tokens - counts.untimed_completion_tokens
    num_completion -= counts.replayed_tokens
    prompt_s = _each(counts.prompt_s, num_computed)
    return TokenSeconds(
        prompt=prompt_s,
        completion=_each(counts.answer_s + counts.draft_s, num_completion),
        drafted=_each(counts.draft_s, counts.drafted_tokens),
        saved_by_cache_s=(prompt_s or 0.0) * counts.cached_prompt_tokens,
    )


def _each(total_s: float, num: int) -> float | None:
    return total_s / num if num > 0 and total_s > 0 else None


def _numbers(
    groups: Sequence[Group], seconds: Mapping[str, TokenSeconds], prices: Prices
) -> UsageNumbers:
    total, estimated_s = Counts(), 0.0
    for group in groups:
        counts, each = group.counts, seconds[group.names["model"]]
        total = total.with_(counts)
        estimated_s += counts.untimed_prompt_tokens * (each.prompt or 0.0)
        estimated_s += counts.untimed_completion_tokens * (each.completion or 0.0)
    machine_s = total.timed_s + estimated_s
    energy_j = _energy_j(total, machine_s, prices.watts)
    return UsageNumbers(
        **{name: getattr(total, name) for name in _COUNTED},
        estimated_s=estimated_s,
        machine_s=machine_s,
        cost=None if prices.price_per_hour is None else machine_s / _HOUR_S * prices.price_per_hour,
        energy_j=energy_j,
        gco2e_g=None
        if energy_j is None or prices.gco2_per_kwh is None
        else energy_j / _KWH_J * prices.gco2_per_kwh,
    )


def _energy_j(total: Counts, machine_s: float, watts: float | None) -> float | None:
    """Of time without a reading by what was read at other times, unless it is said."""
    if watts is None and total.metered_s > 0:
        watts = total.energy_j / total.metered_s
    if watts is None:
        return None
    return total.energy_j + max(machine_s - total.metered_s, 0.0) * watts

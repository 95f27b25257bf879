"""What one caller has used of its limits, and whether more fits.

Knows no key, no request and no HTTP.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from appliance.errors import RateLimited
from appliance.gateway.accounts.caller import CallerLimits
from appliance.gateway.accounts.meter import Meter

_DAY_S = 86_400
_SLOT_WAIT_S = 1.0  # one of a caller's own requests ends within the time of an answer


@dataclass(frozen=True)
class Clocks:
    """Both in seconds."""

    monotonic_s: Callable[[], float] = time.monotonic  # for windows of a minute
    unix_s: Callable[[], float] = time.time  # for days

    @property
    def day(self) -> int:
        """Its number; days begin at 00:00 UTC."""
        return int(self.unix_s() // _DAY_S)

    @property
    def day_left_s(self) -> float:
        return _DAY_S - self.unix_s() % _DAY_S


class Amount(NamedTuple):
    """That is taken, or given back."""

    num_requests: int
    num_tokens: int


class Standing(NamedTuple):
    """Of one limit, as its caller is told."""

    kind: str  # "requests" or "tokens", of a minute, or "tokens-day"
    limit: int
    left: int
    reset_s: float  # until all of it is free


class Used:
    """By one caller; its limits are told with every call, for they may change."""

    def __init__(self, clocks: Clocks) -> None:
        self._clocks = clocks
        self._requests = Meter()
        self._tokens = Meter()
        self._day = 0
        self._day_tokens = 0
        self.num_running = 0
        self.num_running_elsewhere = 0  # on other servers of a fleet
        self.taken = Amount(0, 0)  # here, ever; what was given back is taken off
        self.num_reserved_tokens = 0  # by requests in flight
        self.num_settled_tokens = 0  # ever

    def check(self, limits: CallerLimits, amount: Amount) -> None:
        """Raises `RateLimited` where one more request of that amount does not fit. One
        that is larger than a limit fits where nothing of that is used.
        """
        refusals = [*self._refusals(limits, amount)]
        if refusals:
            wait_s, reason = max(refusals)
            raise RateLimited.after(wait_s, reason)

    def _refusals(self, limits: CallerLimits, amount: Amount) -> Iterator[tuple[float, str]]:
        now_s = self._clocks.monotonic_s()
        most = limits.concurrent_requests
        num_running = self.num_running + self.num_running_elsewhere
        if most is not None and num_running + amount.num_requests > most:
            reason = f"This key may have {most} requests in flight, and has {num_running}."
            yield _SLOT_WAIT_S, reason
        most = limits.requests_per_minute
        if most is not None:
            wait_s = self._requests.wait_s(amount.num_requests, most, now_s)
            if wait_s > 0:
                yield wait_s, f"This key may send {most} requests a minute."
        most = limits.tokens_per_minute
        if most is not None:
            wait_s = self._tokens.wait_s(amount.num_tokens, most, now_s)
            if wait_s > 0:
                left = self._tokens.left(most, now_s)
                yield wait_s, _tokens_refused("minute", most, f"{left} are left", amount)
        most = limits.tokens_per_day
        if most is not None:
            left = self._left_today(most)
            if min(amount.num_tokens, most) > left or left == 0:
                rest = f"{left} are left until 00:00 UTC"
                yield self._clocks.day_left_s, _tokens_refused("day", most, rest, amount)

    def take(self, limits: CallerLimits, amount: Amount) -> None:
        """Whether it fits or not; what is negative is given back."""
        self.taken = Amount(
            self.taken.num_requests + amount.num_requests,
            self.taken.num_tokens + amount.num_tokens,
        )
        self._take_of_minute(limits, amount)
        if limits.tokens_per_day is not None:
            self._begin_day(self._clocks.day)
            self._day_tokens = max(0, self._day_tokens + amount.num_tokens)

    def take_elsewhere(self, limits: CallerLimits, amount: Amount, num_running: int) -> None:
        """What other servers of a fleet have taken since they were asked last, and how many
        requests they have now. Their tokens of the day come by `set_day_tokens`.
        """
        self.num_running_elsewhere = num_running
        self._take_of_minute(limits, amount)

    def _take_of_minute(self, limits: CallerLimits, amount: Amount) -> None:
        now_s = self._clocks.monotonic_s()
        if limits.requests_per_minute is not None:
            self._requests.add(amount.num_requests, limits.requests_per_minute, now_s)
        if limits.tokens_per_minute is not None:
            self._tokens.add(amount.num_tokens, limits.tokens_per_minute, now_s)

    def set_day_tokens(self, day: int, num_tokens: int) -> None:
        """What was used on a day by all processes, as far as it is known."""
        self._begin_day(day)
        self._day_tokens = max(self._day_tokens, num_tokens + self.num_reserved_tokens)

    def standings(self, limits: CallerLimits) -> Iterator[Standing]:
        now_s = self._clocks.monotonic_s()
        for kind, most, meter in (
            ("requests", limits.requests_per_minute, self._requests),
            ("tokens", limits.tokens_per_minute, self._tokens),
        ):
            if most is not None:
                left, reset_s = meter.left(most, now_s), meter.empty_in_s(most, now_s)
                yield Standing(kind, most, left, reset_s)
        if (most := limits.tokens_per_day) is not None:
            reset_s = self._clocks.day_left_s
            yield Standing("tokens-day", most, self._left_today(most), reset_s)

    def _left_today(self, most: int) -> int:
        self._begin_day(self._clocks.day)
        return max(0, most - self._day_tokens)

    def _begin_day(self, day: int) -> None:
        if day != self._day:
            self._day, self._day_tokens = day, 0


def _tokens_refused(window: str, limit: int, rest: str, amount: Amount) -> str:
    return (
        f"This key may use {limit} tokens a {window}, of prompts and answers together. {rest}, and "
        f"this request may take {amount.num_tokens}."
    )

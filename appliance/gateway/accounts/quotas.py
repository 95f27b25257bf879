"""How much each caller may use: reserved before a request, settled after it.

Knows no key, no file and no HTTP. All of it happens on one event loop, between two
awaits: what fits is taken in the same step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType

from appliance.errors import BadRequest
from appliance.gateway.accounts.caller import Caller, CallerLimits
from appliance.gateway.accounts.cost import Cost, cost_of
from appliance.gateway.accounts.used import Amount, Clocks, Standing, Used
from appliance.protocol.events import Delta, EmbedResult, Finished, Message, Started
from appliance.protocol.requests import EmbedRequest, GenerateRequest, RerankRequest

CountedRequest = GenerateRequest | EmbedRequest | RerankRequest
# whose, the day's number, and how many tokens more it has used
OnDayTokens = Callable[[str, int, int], None]


def _forgotten(_caller_id: str, _day: int, _num_tokens: int) -> None:
    """Where nothing outlives the process."""


class Quotas:
    """What every caller with limits has used."""

    def __init__(
        self, *, on_day_tokens: OnDayTokens = _forgotten, clocks: Clocks | None = None
    ) -> None:
        """`on_day_tokens` must neither block nor raise."""
        self._on_day_tokens = on_day_tokens
        self._clocks = clocks or Clocks()
        self._by_id: dict[str, Used] = {}

    def reserve(
        self, caller: Caller, request: CountedRequest, *, is_resumed: bool = False
    ) -> Reservation | None:
        """None for a caller without limits. `is_resumed`: it goes on with one that was
        left, which is no request of its own, and whose prompt has been counted.

        Raises `RateLimited`, and then nothing has been taken.
        """
        if not is_limited(caller.limits):
            return None
        used = self._used_by(caller.id)
        cost = Cost(0)
        if not is_resumed:
            cost = cost_of(request)
            used.check(caller.limits, Amount(1, cost.prompt + cost.answer))
        return Reservation(self, caller, used, cost=cost, is_resumed=is_resumed)

    def check_together(self, caller: Caller, requests: Sequence[CountedRequest]) -> None:
        """Whether all answers to one call fit, each of which is a request.

        Raises `BadRequest` where they never do, and `RateLimited`.
        """
        limits = caller.limits
        if len(requests) < 2 or not is_limited(limits):
            return
        for most, what in (
            (limits.requests_per_minute, "send {} requests a minute"),
            (limits.concurrent_requests, "have {} requests in flight"),
        ):
            if most is not None and len(requests) > most:
                raise BadRequest(
                    f"This call asks for {len(requests)} answers, each of which counts as a "
                    f"request, and this key may {what.format(most)}. Ask for fewer at once."
                )
        costs = [cost_of(request) for request in requests]
        num_tokens = sum(cost.prompt + cost.answer for cost in costs)
        self._used_by(caller.id).check(limits, Amount(len(requests), num_tokens))

    def standings(self, caller: Caller) -> list[Standing]:
        """Of each of its limits on requests and tokens."""
        return [*self._used_by(caller.id).standings(caller.limits)]

    def settled(self) -> dict[str, int]:
        """Tokens, by caller, since the start: for `set_day_tokens`."""
        return {caller_id: used.num_settled_tokens for caller_id, used in self._by_id.items()}

    def set_day_tokens(
        self, day: int, tokens: Mapping[str, int], settled_before: Mapping[str, int]
    ) -> None:
        """What has been written down of a day, by all processes; `settled_before` is what
        was settled here when that was read.
        """
        for caller_id, num_tokens in tokens.items():
            used = self._used_by(caller_id)
            since = used.num_settled_tokens - settled_before.get(caller_id, 0)
            used.set_day_tokens(day, num_tokens + since)

    def used_here(self) -> dict[str, tuple[Amount, int]]:
        """By caller: what was taken since the start, and the requests in flight."""
        return {name: (used.taken, used.num_running) for name, used in self._by_id.items()}

    def take_elsewhere(
        self, caller_id: str, limits: CallerLimits, amount: Amount, num_running: int
    ) -> None:
        """See `Used.take_elsewhere`."""
        self._used_by(caller_id).take_elsewhere(limits, amount, num_running)

    def write_down(self, caller: Caller, num_tokens: int) -> None:
        if caller.limits.tokens_per_day is not None and num_tokens:
            self._on_day_tokens(caller.id, self._clocks.day, num_tokens)

    def _used_by(self, caller_id: str) -> Used:
        return self._by_id.setdefault(caller_id, Used(self._clocks))


class Reservation:
    """Of one request, within whose context it is in flight. Implements `ObservedRequest`:
    an answer that grows beyond what is reserved is counted as it grows.
    """

    def __init__(
        self, quotas: Quotas, caller: Caller, used: Used, *, cost: Cost, is_resumed: bool
    ) -> None:
        """It has been checked that it fits."""
        self._quotas = quotas
        self._caller = caller
        self._used = used
        self._is_resumed = is_resumed
        self._num_requests = 0 if is_resumed else 1
        self._estimate = cost.prompt
        self._num_prompt_tokens = 0  # as they turned out
        self._num_answer_tokens = 0
        self._num_taken = 0  # of both
        self._is_begun = False
        used.num_running += 1
        used.take(caller.limits, Amount(self._num_requests, 0))
        self._take(cost.prompt + cost.answer)

    def begun(self) -> Reservation:
        """One that never is has taken nothing."""
        self._is_begun = True
        return self

    def event(self, message: Message, /) -> None:
        if isinstance(message, Delta):
            self._num_answer_tokens += message.num_tokens
        elif isinstance(message, Started):
            if not self._is_resumed:
                self._num_prompt_tokens = message.num_prompt_tokens
                self._take(message.num_prompt_tokens - self._estimate)
        elif isinstance(message, Finished):
            # of a resumed one, its usage is that of the whole answer
            if not self._is_resumed:
                self._num_prompt_tokens = message.usage.num_prompt_tokens
                self._num_answer_tokens = message.usage.num_completion_tokens
        elif isinstance(message, EmbedResult):
            self._num_prompt_tokens = message.num_tokens
        if self._num_tokens > self._num_taken:
            self._take(self._num_tokens - self._num_taken)

    def ended(self, outcome: str, /) -> None:
        """Settled where its context ends."""

    def __enter__(self) -> Reservation:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._used.num_running -= 1
        self._take(self._num_tokens - self._num_taken)
        self._used.num_reserved_tokens -= self._num_tokens
        self._used.num_settled_tokens += self._num_tokens
        self._quotas.write_down(self._caller, self._num_tokens)
        if not self._is_begun:
            self._used.take(self._caller.limits, Amount(-self._num_requests, 0))

    @property
    def _num_tokens(self) -> int:
        return self._num_prompt_tokens + self._num_answer_tokens

    def _take(self, num_tokens: int) -> None:
        self._num_taken += num_tokens
        self._used.num_reserved_tokens += num_tokens
        self._used.take(self._caller.limits, Amount(0, num_tokens))


def is_limited(limits: CallerLimits) -> bool:
    """In anything but its models."""
    return not (
        limits.requests_per_minute is None
        and limits.tokens_per_minute is None
        and limits.tokens_per_day is None
        and limits.concurrent_requests is None
    )

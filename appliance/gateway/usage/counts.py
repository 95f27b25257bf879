"""What is counted of requests, and added up: tokens, machine time and energy.

Knows no database and no price.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from appliance.gateway.observers import CANCELLED, EMBEDDED
from appliance.gateway.telemetry.summary import RequestSummary
from appliance.protocol.events import CacheUse, FinishReason

_ANSWERED = frozenset({EMBEDDED, FinishReason.STOP.value, FinishReason.LENGTH.value})
_NOT_FAILED = _ANSWERED | {CANCELLED}  # who asked had enough of it


@dataclass(kw_only=True)
class Counts:
    """Of any number of requests. The fields' names are the columns' on disk."""

    requests: int = 0
    failed: int = 0  # of them: refused, or ended by an error; not those that clients stopped
    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0  # of them, taken from the cache instead of being computed
    completion_tokens: int = 0
    replayed_tokens: int = 0  # of them, from the response cache
    drafted_tokens: int = 0
    accepted_draft_tokens: int = 0  # of them, that became tokens of answers
    # The requests' parts of the time in which their models computed.
    prompt_s: float = 0.0
    answer_s: float = 0.0
    draft_s: float = 0.0
    # Of the tokens above that were computed, those of answers that were cut off: nobody told
    # their time.
    untimed_prompt_tokens: int = 0
    untimed_completion_tokens: int = 0
    # Of the time above, that in which the machine's power was known, and the energy.
    metered_s: float = 0.0
    energy_j: float = 0.0

    @property
    def timed_s(self) -> float:
        return self.prompt_s + self.answer_s + self.draft_s

    def with_(self, other: Counts) -> Counts:
        """Both together."""
        return Counts(**{name: getattr(self, name) + getattr(other, name) for name in COUNT_NAMES})

    def without(self, other: Counts) -> Counts:
        """What is more in this than in the other one; may be negative."""
        return Counts(**{name: getattr(self, name) - getattr(other, name) for name in COUNT_NAMES})


COUNT_NAMES = tuple(field.name for field in fields(Counts))


def is_whole(summary: RequestSummary) -> bool:
    """Whether it was answered to its end."""
    return summary.outcome in _ANSWERED


def counts_of(summary: RequestSummary) -> Counts:
    """Of one request at its end, without its energy."""
    counts = Counts(requests=1, failed=int(summary.outcome not in _NOT_FAILED))
    usage, cut_off, shares = summary.usage, summary.cut_off, summary.shares
    counts.prompt_tokens = usage.num_prompt_tokens + cut_off.num_prompt_tokens
    counts.cached_prompt_tokens = usage.num_cached_tokens + cut_off.num_cached_tokens
    counts.completion_tokens = usage.num_completion_tokens + cut_off.num_completion_tokens
    counts.untimed_prompt_tokens = cut_off.num_prompt_tokens - cut_off.num_cached_tokens
    counts.untimed_completion_tokens = cut_off.num_completion_tokens
    if summary.cache is CacheUse.HIT:
        counts.replayed_tokens = usage.num_completion_tokens
    if usage.drafts is not None:
        counts.drafted_tokens = usage.drafts.num_drafted
        counts.accepted_draft_tokens = usage.drafts.num_accepted
    counts.prompt_s = shares.prompt_ms / 1000
    counts.answer_s = shares.answer_ms / 1000
    counts.draft_s = shares.draft_ms / 1000
    return counts

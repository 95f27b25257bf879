"""A request at its end: who asked what, how it ended, and how long each part took.

Knows no metric and no log.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from appliance.gateway.observers import ObservableRequest
from appliance.gateway.telemetry.origin import Origin
from appliance.protocol.events import CacheUse, Shares, Stages, Usage

NOT_COUNTED = Usage(num_prompt_tokens=0, num_cached_tokens=0, num_completion_tokens=0)
NO_SHARES = Shares()


@dataclass(frozen=True, kw_only=True)
class RequestSummary:
    """Of one answer, one request for vectors or scores, or one question."""

    caller_id: str
    model_id: str
    request: ObservableRequest
    origin: Origin | None  # None where no client asked
    outcome: str  # as observers get it
    arrived_ns: int  # since the epoch
    ended_s: float  # by the monotonic clock
    total_s: float  # from its arrival to its end
    # From its arrival until it had a slot: in line, while its model was loaded, while its
    # prompt was tokenized. None where that is not known: it had none, or was cut off.
    queue_s: float | None = None
    first_token_s: float | None = None  # from its arrival to its first text; None: there was none
    usage: Usage = NOT_COUNTED  # zeros where it was not answered
    stages: Stages | None = None  # as its worker measured them
    shares: Shares = NO_SHARES  # of its model's computing; zeros where nobody told
    # Of an answer that was cut off before its end, the tokens known of: all of its prompt,
    # and of the answer those whose text was taken. Else zeros.
    cut_off: Usage = NOT_COUNTED
    cache: CacheUse = CacheUse.NONE


class SummaryListener(Protocol):
    """Whoever wants to know of each request once, at its end."""

    def request_ended(self, summary: RequestSummary, /) -> None:
        """Must neither block nor raise."""

"""What goes with a request beside the request: where it came from, and what became of what
it asked for.

Knows no HTTP and writes nothing down.

It is found by context variables, which tasks and threads inherit that a request starts:
so neither formats nor models need to hand it on.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field

from appliance.gateway.telemetry.origin import Origin
from appliance.gateway.telemetry.summary import RequestSummary
from appliance.logs import REQUEST_ID
from appliance.protocol.events import CacheUse


@dataclass(eq=False, kw_only=True)
class RequestContext:
    """One request of a client's, from its head to the end of its response."""

    origin: Origin
    caller_id: str = ""  # empty until it is known
    # of what was asked of models, as each ended: several answers to one request, or none
    summaries: list[RequestSummary] = field(default_factory=list)
    cache: CacheUse = CacheUse.NONE  # of several answers, the worst so far
    is_over: bool = False

    def begin(self) -> None:
        """What runs in this task from now on belongs to it."""
        _current.set(self)
        REQUEST_ID.set(self.origin.request_id)

    def note(self, summary: RequestSummary) -> None:
        """Not after its end: a task that outlives it may ask models without end."""
        if not self.is_over:
            self.summaries.append(summary)

    def note_cache(self, use: CacheUse) -> None:
        if not self.is_over and CacheUse.MISS is not self.cache:
            self.cache = use


_current: ContextVar[RequestContext | None] = ContextVar("request", default=None)


def current_request() -> RequestContext | None:
    """That of the task that asks; None outside of requests."""
    return _current.get()

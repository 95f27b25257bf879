"""Follows each request from its start to its end, and tells once how it went.

Knows no metric and no log. What it does for each token is all that is done here for each
token: a clock read, and one number handed on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from appliance.gateway.accounts.caller import Caller
from appliance.gateway.observers import ObservableRequest, ObservedRequest
from appliance.gateway.telemetry.context import current_request
from appliance.gateway.telemetry.summary import (
    NO_SHARES,
    NOT_COUNTED,
    RequestSummary,
    SummaryListener,
)
from appliance.protocol.events import (
    CacheUse,
    Delta,
    EmbedResult,
    Finished,
    Message,
    Shares,
    Stages,
    Started,
    Usage,
)
from appliance.protocol.requests import GenerateRequest

Gaps = Callable[[float, int, float], None]


class GapMeters(Protocol):
    """Whoever counts the times between tokens."""

    def meter(self, caller_id: str, model_id: str, /) -> Gaps:
        """Takes the time between two tokens in seconds, how many times it was that, and
        what time it is.
        """


class FollowedRequests:
    """Observes every request; `clock` is in seconds."""

    def __init__(
        self,
        gaps: GapMeters,
        listeners: Sequence[SummaryListener],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._gaps = gaps
        self._listeners = [*listeners]
        self._clock = clock

    def add_listener(self, listener: SummaryListener) -> None:
        self._listeners.append(listener)

    def started(
        self, caller: Caller, model_id: str, request: ObservableRequest, /
    ) -> ObservedRequest:
        gaps: Gaps = _no_gaps
        if isinstance(request, GenerateRequest):
            gaps = self._gaps.meter(caller.id, model_id)
        return _Followed(
            caller_id=caller.id,
            model_id=model_id,
            request=request,
            gaps=gaps,
            clock=self._clock,
            tell=self._tell,
        )

    def _tell(self, summary: RequestSummary) -> None:
        for listener in self._listeners:
            listener.request_ended(summary)


def _of_replay(usage: Usage) -> Usage:
    """What an answer from the response cache took: none of its prompt was computed, and
    nothing was drafted.
    """
    return msgspec.structs.replace(usage, num_cached_tokens=usage.num_prompt_tokens, drafts=None)


def _no_gaps(_gap_s: float, _num: int, _now_s: float) -> None:
    """Of what brings no tokens."""


class _Followed:
    """Times the events as they are taken."""

    def __init__(
        self,
        *,
        caller_id: str,
        model_id: str,
        request: ObservableRequest,
        gaps: Gaps,
        clock: Callable[[], float],
        tell: Callable[[RequestSummary], None],
    ) -> None:
        self._caller_id = caller_id
        self._model_id = model_id
        self._request = request
        self._gaps = gaps
        self._clock = clock
        self._tell = tell
        self._context = current_request()
        self._arrived_ns = time.time_ns()
        self._arrived_s = clock()
        self._accepted_s: float | None = None
        self._first_s: float | None = None  # None until there is text of the answer's own
        self._last_s = 0.0
        self._num_prompt_tokens = self._num_cached_tokens = self._num_tokens = 0
        self._finished: Finished | None = None
        self._usage = NOT_COUNTED
        self._shares = NO_SHARES
        self._cache = CacheUse.NONE

    def event(self, message: Message, /) -> None:
        if isinstance(message, Delta):
            if message.progress is not None:
                self._num_cached_tokens = message.progress.num_cached_tokens
            # not the prompt's own text
            if message.num_tokens or self._first_s is not None:
                self._measure(message.num_tokens)
        elif isinstance(message, Finished):
            self._note_cache(message.cache)
            self._finished, self._usage = message, message.usage
            if self._cache is CacheUse.HIT:
                self._usage = _of_replay(message.usage)
            if message.stages is not None:
                self._shares = message.stages.shares
        elif isinstance(message, Started):
            self._note_cache(message.cache)
            self._accepted_s = self._clock()
            self._num_prompt_tokens = message.num_prompt_tokens
        elif isinstance(message, EmbedResult):
            self._note_cache(message.cache)
            self._usage = Usage(
                num_prompt_tokens=message.num_tokens,
                num_cached_tokens=message.num_cached_tokens,
                num_completion_tokens=0,
            )
            self._shares = Shares(prompt_ms=message.compute_ms)

    def _note_cache(self, use: CacheUse) -> None:
        if use is CacheUse.NONE:
            return
        self._cache = use
        if self._context is not None:
            self._context.note_cache(use)
        if use is CacheUse.HIT:
            self._gaps = _no_gaps  # no model brings these tokens

    def _measure(self, num_tokens: int) -> None:
        now_s = self._clock()
        self._num_tokens += num_tokens
        if self._first_s is None:
            self._first_s = now_s
        elif num_tokens:  # more than one where some had no text of their own
            self._gaps((now_s - self._last_s) / num_tokens, num_tokens, now_s)
        self._last_s = now_s

    def _queue_s(self, stages: Stages, ended_s: float) -> float | None:
        """Events reach us a little after they happened, so that each way of telling when
        the queue ended may be too late: the earliest is the nearest.
        """
        if self._accepted_s is None or self._cache is CacheUse.HIT:
            return None
        prefill_s, decode_s = stages.prefill_ms / 1000, stages.decode_ms / 1000
        first_s = ended_s if self._first_s is None else self._first_s
        ends_s = min(
            self._accepted_s + stages.queue_ms / 1000,
            first_s - prefill_s,
            ended_s - decode_s - prefill_s,
        )
        return max(0.0, ends_s - self._arrived_s)

    def ended(self, outcome: str, /) -> None:
        ended_s = self._clock()
        first_s, stages = self._first_s, self._finished.stages if self._finished else None
        is_generation = isinstance(self._request, GenerateRequest)
        summary = RequestSummary(
            caller_id=self._caller_id,
            model_id=self._model_id,
            request=self._request,
            origin=None if self._context is None else self._context.origin,
            outcome=outcome,
            arrived_ns=self._arrived_ns,
            ended_s=ended_s,
            total_s=ended_s - self._arrived_s,
            queue_s=None if stages is None else self._queue_s(stages, ended_s),
            first_token_s=None
            if first_s is None or not is_generation
            else first_s - self._arrived_s,
            usage=self._usage,
            stages=stages,
            shares=self._shares,
            cut_off=self._cut_off(),
            cache=self._cache,
        )
        if self._context is not None:
            self._context.note(summary)
        self._tell(summary)

    def _cut_off(self) -> Usage:
        if self._finished is not None or self._first_s is None:
            return NOT_COUNTED
        if self._cache is CacheUse.HIT:
            return NOT_COUNTED  # it costs nothing
        return Usage(
            num_prompt_tokens=self._num_prompt_tokens,
            num_cached_tokens=self._num_cached_tokens,
            num_completion_tokens=self._num_tokens,
        )

"""What is kept of each request of the last hour, for percentiles that are exact: at most
`MAX_SAMPLES` for each model.

Knows no percentile.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import msgspec

from appliance.gateway.telemetry.labels import CallerLabels
from appliance.gateway.telemetry.summary import RequestSummary
from appliance.protocol.questions import Question

MAX_SAMPLES = 8192  # of a model; 2 MiB where so many requests came within the hour


class Sample(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One request that has ended."""

    ended_s: float
    key: str  # a label
    outcome: str
    total_s: float
    queue_s: float | None
    first_token_s: float | None
    is_answered: bool
    num_prompt_tokens: int
    num_cached_tokens: int
    num_completion_tokens: int
    num_drafted_tokens: int
    num_accepted_tokens: int


class RequestLog:
    """Of the last `window_s` seconds; questions are left out."""

    def __init__(self, labels: CallerLabels, window_s: float) -> None:
        self._labels = labels
        self._window_s = window_s
        self._samples: dict[str, deque[Sample]] = {}  # by model, the latest last

    def request_ended(self, summary: RequestSummary, /) -> None:
        if isinstance(summary.request, Question):
            return
        samples = self._samples.get(summary.model_id)
        oldest_s = summary.ended_s - self._window_s
        if samples is None:
            self._forget_before(oldest_s)
            samples = self._samples[summary.model_id] = deque(maxlen=MAX_SAMPLES)
        while samples and samples[0].ended_s < oldest_s:
            samples.popleft()
        usage, drafts = summary.usage, summary.usage.drafts
        samples.append(
            Sample(
                ended_s=summary.ended_s,
                key=self._labels.label_of(summary.caller_id),
                outcome=summary.outcome,
                total_s=summary.total_s,
                queue_s=summary.queue_s,
                first_token_s=summary.first_token_s,
                is_answered=usage.num_prompt_tokens > 0,
                num_prompt_tokens=usage.num_prompt_tokens,
                num_cached_tokens=usage.num_cached_tokens,
                num_completion_tokens=usage.num_completion_tokens,
                num_drafted_tokens=0 if drafts is None else drafts.num_drafted,
                num_accepted_tokens=0 if drafts is None else drafts.num_accepted,
            )
        )

    def _forget_before(self, oldest_s: float) -> None:
        """Models that nobody asked since: they come and go."""
        self._samples = {
            model_id: samples
            for model_id, samples in self._samples.items()
            if samples[-1].ended_s >= oldest_s
        }

    def snapshot(self) -> dict[str, list[Sample]]:
        """By model, in order of their ends; asked for on the event loop, which alone adds."""
        return {model_id: [*samples] for model_id, samples in self._samples.items()}

    @staticmethod
    def begins_s(samples: Sequence[Sample], since_s: float) -> float:
        """Since when no request is missing among these: `since_s`, or where there were too
        many the first one's end.
        """
        is_full = len(samples) == MAX_SAMPLES
        return max(since_s, samples[0].ended_s) if is_full else since_s

"""Requests that are followed at a pace which the test sets, and what is told of them.

Knows no process.
"""

from __future__ import annotations

from appliance.gateway.accounts.caller import Caller
from appliance.gateway.telemetry.metrics import Metrics
from appliance.protocol.events import (
    Delta,
    Drafts,
    Finished,
    FinishReason,
    Stages,
    Started,
    Usage,
)
from appliance.protocol.requests import GenerateRequest, TextPrompt

REQUEST = GenerateRequest(prompt=TextPrompt("Once"))


class Clock:
    """Time passes when the test says so."""

    def __init__(self, now_s: float = 1000.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s

    def pass_s(self, duration_s: float) -> None:
        self.now_s += duration_s


def answer(
    metrics: Metrics,
    clock: Clock,
    *,
    caller: str = "alice",
    model_id: str = "novels",
    accepted_s: float = 0.5,
    queue_ms: float = 500.0,
    prefill_ms: float = 0.0,
    first_s: float = 2.0,
    gaps_s: tuple[float, ...] = (),
    cached: int = 0,
    drafts: Drafts | None = None,
) -> None:
    """A request with ten prompt tokens: accepted after so long, its first token after
    `first_s`, then one after each gap.
    """
    followed = metrics.requests.started(Caller(caller), model_id, REQUEST)
    clock.pass_s(accepted_s)
    followed.event(Started(1, 10))
    clock.pass_s(first_s - accepted_s)
    followed.event(Delta(request_id=1, text="a", num_tokens=1))
    for gap_s in gaps_s:
        clock.pass_s(gap_s)
        followed.event(Delta(request_id=1, text="b", num_tokens=1))
    usage = Usage(
        num_prompt_tokens=10,
        num_cached_tokens=cached,
        num_completion_tokens=1 + len(gaps_s),
        drafts=drafts,
    )
    stages = Stages(queue_ms=queue_ms, prefill_ms=prefill_ms, decode_ms=0.0)
    finished = Finished(request_id=1, reason=FinishReason.STOP, usage=usage, stages=stages)
    followed.event(finished)
    followed.ended("stop")

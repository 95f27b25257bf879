"""Requests at their end, as the usage log is told of them. Knows no server."""

from __future__ import annotations

from appliance.gateway.telemetry.summary import NO_SHARES, NOT_COUNTED, RequestSummary
from appliance.protocol.events import Drafts, Shares, Usage
from appliance.protocol.requests import GenerateRequest, TextPrompt

DAY_S = 86_400
NOON_S = 20_000 * DAY_S + 12 * 3600  # of 2024-10-04


def answered(
    *,
    key: str = "ann",
    model: str = "novels",
    outcome: str = "stop",
    prompt: int = 10,
    cached: int = 0,
    completion: int = 4,
    drafts: Drafts | None = None,
    shares: Shares | None = None,
    resume_id: str = "",
) -> RequestSummary:
    """An answer; ten tokens of prompt that took 100 ms, and four that took 200 ms."""
    if shares is None:
        shares = Shares(prompt_ms=10.0 * (prompt - cached), answer_ms=50.0 * completion)
    return _summary(
        key,
        model,
        outcome,
        resume_id,
        usage=Usage(
            num_prompt_tokens=prompt,
            num_cached_tokens=cached,
            num_completion_tokens=completion,
            drafts=drafts,
        ),
        shares=shares,
    )


def cut_off(
    *,
    key: str = "ann",
    model: str = "novels",
    outcome: str = "cancelled",
    prompt: int = 10,
    cached: int = 0,
    completion: int = 2,
    resume_id: str = "",
) -> RequestSummary:
    """An answer whose client went away, or that broke off."""
    cut = Usage(
        num_prompt_tokens=prompt, num_cached_tokens=cached, num_completion_tokens=completion
    )
    return _summary(key, model, outcome, resume_id, cut_off=cut)


def refused(*, key: str = "ann", model: str = "novels") -> RequestSummary:
    """A request that found the queue full."""
    return _summary(key, model, "queue_full", "")


def _summary(
    key: str,
    model: str,
    outcome: str,
    resume_id: str,
    *,
    usage: Usage = NOT_COUNTED,
    shares: Shares = NO_SHARES,
    cut_off: Usage = NOT_COUNTED,
) -> RequestSummary:
    return RequestSummary(
        caller_id=key,
        model_id=model,
        request=GenerateRequest(prompt=TextPrompt("Once"), resume_id=resume_id),
        origin=None,
        outcome=outcome,
        arrived_ns=0,
        ended_s=0.0,
        total_s=1.0,
        usage=usage,
        shares=shares,
        cut_off=cut_off,
    )

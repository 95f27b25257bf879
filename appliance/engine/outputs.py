"""What an engine's step brings to requests. Knows no text."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.engine.drafting.drafter import DraftUse
from appliance.engine.runner import Logprobs
from appliance.engine.scoring import Prefilled
from appliance.errors import ApplianceError
from appliance.protocol.events import FinishReason


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """One new token of a request."""

    request_id: int
    token: int
    num_new_tokens: int  # of the answer so far
    num_cached_tokens: int  # of the prompt, taken over from a known prefix
    finish_reason: FinishReason | None  # where this token is the last
    num_discarded_tokens: int = 0  # by context shifts: no longer looked at
    logprobs: Logprobs | None = None
    drafts: DraftUse | None = None  # what drafting brought so far; None where there is none


@dataclass(frozen=True)
class Broken:
    """A request that ended in an error after it had been accepted."""

    request_id: int
    error: ApplianceError


Output = Sampled | Prefilled | Broken

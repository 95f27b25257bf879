"""What an engine's step brings to requests. Knows no text."""

from __future__ import annotations

from dataclasses import dataclass, field

from appliance.engine.drafting.drafter import DraftUse
from appliance.engine.runner import ChosenToken, Logprobs
from appliance.engine.scoring import Prefilled
from appliance.engine.sequence import Sequence
from appliance.engine.stage_times import StageTimes
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
    num_moved_tokens: int = 0  # see `appliance.engine.sequence.Sequence`
    num_discarded_tokens: int = 0  # by context shifts: no longer looked at
    is_repeatable: bool = False  # see `Sequence`
    logprobs: Logprobs | None = None
    drafts: DraftUse | None = None  # what drafting brought so far; None where there is none
    times: StageTimes | None = field(default=None, compare=False)

    @classmethod
    def of(
        cls,
        seq: Sequence,
        choice: ChosenToken,
        reason: FinishReason | None,
        drafts: DraftUse | None,
    ) -> Sampled:
        """The token that `seq` has just been given."""
        return cls(
            request_id=seq.request_id,
            token=choice.token,
            num_new_tokens=seq.num_new_tokens,
            num_cached_tokens=seq.num_cached_tokens,
            num_moved_tokens=seq.num_moved_tokens,
            finish_reason=reason,
            num_discarded_tokens=seq.num_discarded_tokens,
            is_repeatable=seq.is_repeatable,
            logprobs=choice.logprobs,
            drafts=drafts,
            times=seq.times,
        )


@dataclass(frozen=True)
class Broken:
    """A request that ended in an error after it had been accepted."""

    request_id: int
    error: ApplianceError


Output = Sampled | Prefilled | Broken

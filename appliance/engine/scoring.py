"""What the model gives to a prompt's own tokens:
which rows' logits show it, and its reports.

Computes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from typing import NamedTuple

from appliance.engine.runner import Logprobs, ScoreRequest
from appliance.engine.sequence import Sequence
from appliance.engine.stage_times import StageTimes
from appliance.engine.step import ScheduledStep
from appliance.protocol.events import FinishReason


class ScoredToken(NamedTuple):
    """A token of a prompt; None for its first one, which nothing comes before."""

    token: int
    logprobs: Logprobs | None


@dataclass(frozen=True)
class Prefilled:
    """More of a request's prompt has been computed."""

    request_id: int
    scored: tuple[ScoredToken, ...]  # the next of its tokens, where they are scored
    num_cached_tokens: int
    finish_reason: FinishReason | None = None  # where no token is to be generated
    num_prefilled_tokens: int = 0  # of the prompt, cached ones included
    times: StageTimes | None = field(default=None, compare=False)
    num_moved_tokens: int = 0  # see `Sequence`

    @classmethod
    def of(
        cls, seq: Sequence, scored: tuple[ScoredToken, ...], reason: FinishReason | None
    ) -> Prefilled:
        return cls(
            seq.request_id,
            scored,
            seq.num_cached_tokens,
            reason,
            num_prefilled_tokens=seq.num_prefilled_tokens,
            num_moved_tokens=seq.num_moved_tokens,
            times=seq.times,
        )


def score_requests(step: ScheduledStep, sequences: Mapping[int, Sequence]) -> list[ScoreRequest]:
    """One for each row of `step.scored`, in its order."""
    requests = []
    for request_id, rows in step.scored.items():
        seq = sequences[request_id]
        num_top = seq.sampling.num_top_logprobs or 0
        for row in rows:
            requests.append(
                ScoreRequest(row, seq.tokens[step.batch.rows[row].position + 1], num_top)
            )
    return requests


def newly_scored(seq: Sequence, logprobs: Seq[Logprobs]) -> tuple[ScoredToken, ...]:
    """The sequence's next tokens; from now on they count as scored."""
    first = [None] if seq.num_scored_tokens == 0 else []
    found = [*first, *logprobs]
    tokens = seq.plain_tokens[seq.num_scored_tokens : seq.num_scored_tokens + len(found)]
    seq.num_scored_tokens += len(found)
    return tuple(ScoredToken(token, each) for token, each in zip(tokens, found, strict=True))

"""What an engine is asked for, and how that becomes a sequence.

Knows no text and no cells.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field, replace

from appliance.engine.adapters.sets import NO_ADAPTERS, AdapterSet
from appliance.engine.constraint import Constraint
from appliance.engine.sequence import Sequence
from appliance.errors import BadRequest
from appliance.protocol.sampling import SamplingParams

_MAX_SEED = 1 << 63


@dataclass(frozen=True, kw_only=True)
class EngineRequest:
    """A prompt, and how it is to be answered."""

    request_id: int
    prompt: Seq[int]
    sampling: SamplingParams
    # None: as far as the context goes, and no further than that with `shifts_context`
    # either. With 0 the prompt is computed, and that is all.
    max_new_tokens: int | None = None
    # The rest as in `Sequence`.
    shifts_context: bool = False
    keeps_prefix: bool = False
    constraint: Constraint | None = None
    uses_cache: bool = True
    scores_prompt: bool = False
    reports_progress: bool = False
    is_repeatable: bool = False
    min_moved_tokens: int = 0
    adapters: AdapterSet = NO_ADAPTERS
    # After how many tokens of the prompt others may go on otherwise.
    places: Mapping[int, bool] = field(default_factory=dict)

    def check_tokens(self, num_vocab: int) -> None:
        """Raises `BadRequest` for an empty prompt,
        and for tokens outside the vocabulary.
        """
        if not self.prompt:
            raise BadRequest("The prompt is empty. It must have at least one token.")
        for tokens, param in ((self.prompt, None), (list(self.sampling.logit_bias), "logit_bias")):
            unknown = next((token for token in tokens if not 0 <= token < num_vocab), None)
            if unknown is not None:
                raise BadRequest(
                    f"Token ids must be between 0 and {num_vocab - 1} (got {unknown}).",
                    param=param,
                )

    def sequence(self, longest_request: int) -> Sequence:
        """The request on its way; `longest_request` is how many
        tokens the engine can hold.
        """
        return Sequence(
            request_id=self.request_id,
            tokens=self.adapters.marked(self.prompt),
            num_prompt_tokens=len(self.prompt),
            max_new_tokens=longest_request if self.max_new_tokens is None else self.max_new_tokens,
            sampling=_seeded(self.sampling),
            shifts_context=self.shifts_context,
            keeps_prefix=self.keeps_prefix,
            constraint=self.constraint,
            uses_cache=self.uses_cache,
            scores_prompt=self.scores_prompt,
            reports_progress=self.reports_progress,
            is_repeatable=self.is_repeatable,
            min_moved_tokens=self.min_moved_tokens,
            adapters=self.adapters,
            places=dict(self.places) if self.uses_cache else {},
        )


def _seeded(sampling: SamplingParams) -> SamplingParams:
    """A seed is drawn once for the whole answer:
    whoever drafts it draws with the same.
    """
    if sampling.seed is not None:
        return sampling
    return replace(sampling, seed=secrets.randbelow(_MAX_SEED))

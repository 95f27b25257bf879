"""One request inside the engine: its tokens, where it stands, how it ended.

Knows neither text nor cells' contents.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from appliance.engine.adapters.sets import NO_ADAPTERS, AdapterSet, plain_tokens
from appliance.engine.constraint import Constraint
from appliance.engine.stage_times import StageTimes
from appliance.protocol.sampling import SamplingParams


class SequenceStatus(enum.Enum):
    """Where a sequence stands. All but the first and the last have a slot."""

    WAITING = "waiting"
    SHARING = "sharing"  # waits for another prompt in progress to compute what both begin with
    PREFILL = "prefill"
    DECODE = "decode"
    PREEMPTED = "preempted"  # gave its cells to older ones; resumes before anybody is admitted
    FINISHED = "finished"


@dataclass(frozen=True)
class Sharing:
    """Whose computing a sequence waits for instead of doing the same."""

    owner: Sequence
    num_tokens: int  # that both prompts begin with


@dataclass(eq=False, kw_only=True)
class Sequence:
    """A request on its way."""

    request_id: int
    # The prompt, followed by what was sampled; the first one is marked by the adapters.
    tokens: list[int]
    num_prompt_tokens: int
    max_new_tokens: int
    sampling: SamplingParams
    status: SequenceStatus = SequenceStatus.WAITING
    slot: int | None = None  # the llama.cpp sequence id while admitted
    num_computed_tokens: int = 0  # the first of `tokens`, which have their KV cells
    num_cached_tokens: int = 0  # of the prompt, taken over from a known prefix
    num_discarded_tokens: int = 0  # of prompt and answer, by context shifts
    shares_with: Sharing | None = None  # while SHARING
    # Where the context is full, the oldest tokens that follow the prompt's beginning
    # are discarded, instead of ending the answer.
    shifts_context: bool = False
    keeps_prefix: bool = False  # the prompt is worth keeping although nobody used it again yet
    constraint: Constraint | None = None  # that the answer keeps to
    uses_cache: bool = True  # takes over a known prefix, and leaves one
    scores_prompt: bool = False  # what the model gives to each token of the prompt is wanted
    num_scored_tokens: int = 0  # of the prompt, whose scores were reported
    reports_progress: bool = False  # each step of the prompt is reported
    was_suspended: bool = False  # since it was submitted
    has_sampler_elsewhere: bool = False  # not in its slot: see `Suspended`
    # The same request is to get the same answer again, which takes care where rows are
    # not exact. It does as long as nobody runs beside it: then this is no longer true.
    is_repeatable: bool = False
    num_exact_tokens: int = 0  # of the prompt, the first ones, computed as they always are
    times: StageTimes | None = None  # since it was accepted; None: not measured
    # It may take over cells of so many equal tokens in a row from other places of other
    # prompts, although they were computed after something else; 0: it may not.
    min_moved_tokens: int = 0
    next_run_at: int | None = None  # where such cells are known for what follows
    # After how many tokens of the prompt it is saved where sequences share no cells, and
    # whether several others are expected to go on from there.
    places: dict[int, bool] = field(default_factory=dict)
    num_moved_tokens: int = 0  # of the cached ones, those that it took over so
    adapters: AdapterSet = NO_ADAPTERS  # that it is computed with
    was_interrupted: bool = False  # since it was admitted, so that what it takes over is its own

    @property
    def admitted_slot(self) -> int:
        """The slot of a sequence that has been admitted."""
        assert self.slot is not None
        return self.slot

    @property
    def status_of_start(self) -> SequenceStatus:
        """Of one that starts, or goes on, with the cells that it has."""
        is_decoding = self.num_new_tokens > 0 and self.num_pending_tokens == 1
        return SequenceStatus.DECODE if is_decoding else SequenceStatus.PREFILL

    @property
    def plain_tokens(self) -> list[int]:
        """Its tokens as the model knows them."""
        return plain_tokens(self.tokens)

    @property
    def reusable_tokens(self) -> list[int]:
        """Those whose cells may be others', but for the last one,
        which is always computed.

        None of those whose logits are still to be read: the logits are not kept with
        the cells.
        """
        if not self.uses_cache:
            return self.tokens[:1]
        return (
            self.tokens[: max(self.num_scored_tokens, 1)]
            if self.has_unscored_tokens
            else self.tokens
        )

    @property
    def num_prefilled_tokens(self) -> int:
        """Of the prompt, those that have cells, cached ones included."""
        return min(self.num_computed_tokens, self.num_prompt_tokens)

    @property
    def reports_prefill(self) -> bool:
        """Whether a step of its prompt is to be reported; not of a prompt that is computed
        again.
        """
        return self.reports_progress and not self.num_new_tokens

    @property
    def has_unscored_tokens(self) -> bool:
        return self.scores_prompt and self.num_scored_tokens < self.num_prompt_tokens

    def is_scored_by(self, position: int) -> bool:
        """Whether the logits of this position's row score a token of the prompt, the
        one after it, whose score is not known yet.
        """
        return (
            self.scores_prompt
            and max(self.num_scored_tokens, 1) <= position + 1 < self.num_prompt_tokens
        )

    @property
    def num_new_tokens(self) -> int:
        return len(self.tokens) + self.num_discarded_tokens - self.num_prompt_tokens

    @property
    def num_pending_tokens(self) -> int:
        """Known tokens that have no KV cells yet: the rest of the prompt, or the token
        sampled last.
        """
        return len(self.tokens) - self.num_computed_tokens

    @property
    def num_tokens_ahead(self) -> int:
        """Of its pending tokens, those to be computed next: up to where cells for what
        follows are known, or the sequence is to be saved.
        """
        ends = [len(self.tokens), *(at for at in self.places if at > self.num_computed_tokens)]
        if self.next_run_at is not None:
            ends.append(self.next_run_at)
        return min(ends) - self.num_computed_tokens

"""One request inside the engine: its tokens, where it stands, how it ended. Knows neither text nor cells' contents."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from appliance.engine.constraint import Constraint


class Status(enum.Enum):
    """Where a sequence stands. All but the first and the last have a slot."""

    WAITING = "waiting"
    SHARING = "sharing"  # waits for another prompt in progress to compute what both begin with
    PREFILL = "prefill"
    DECODE = "decode"
    PREEMPTED = "preempted"  # has given its cells to older sequences; goes on before anybody new is admitted
    FINISHED = "finished"


class FinishReason(str, enum.Enum):
    """Why a sequence ended, in OpenAI's words."""

    STOP = "stop"  # end-of-generation token, or a stop string seen by the text layer
    LENGTH = "length"  # max_new_tokens reached, or the context is full
    CANCELLED = "cancelled"  # the client went away; nobody reads the answer


DEFAULT_SAMPLERS = ("penalties", "dry", "top_n_sigma", "top_k", "typ_p", "top_p", "min_p", "xtc", "temperature")


@dataclass(frozen=True)
class SamplingParams:
    """How the next token is chosen, and what is told about it; defaults are llama.cpp's.

    Zero temperature means greedy. `top_k` 0, `top_p` 1, `min_p` 0 and `repeat_penalty` 1 switch each filter off.
    `repeat_penalty` looks at the last `repeat_last_n` tokens of prompt and answer, the presence and frequency
    penalties at the answer alone (OpenAI's definition). `seed` None draws a fresh one.

    Of llama.cpp's other samplers: `typical_p` 1, `top_n_sigma` 0, `xtc_probability` 0, `dry_multiplier` 0 and
    `dynatemp_range` 0 switch each off. DRY looks at the last `dry_penalty_last_n` tokens of prompt and answer (-1: all
    of them). `mirostat` 1 or 2 takes the place of all filters.

    `samplers` is the order in which they are applied, by llama.cpp's names; one that is not named is off, whatever its
    parameters. `infill` is for what belongs between two texts, and compares each token that is left with each other.

    `num_top_logprobs` asks for the log-probability of each token, and of that many most likely ones beside it; None for
    nothing of the kind.
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    repeat_last_n: int = 64
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    ignore_eos: bool = False
    typical_p: float = 1.0
    top_n_sigma: float = 0.0
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_penalty_last_n: int = -1
    dry_sequence_breakers: tuple[str, ...] = ("\n", ":", '"', "*")
    mirostat: int = 0
    mirostat_tau: float = 5.0
    mirostat_eta: float = 0.1
    dynatemp_range: float = 0.0
    dynatemp_exponent: float = 1.0
    samplers: tuple[str, ...] = DEFAULT_SAMPLERS
    num_top_logprobs: int | None = None


@dataclass(frozen=True)
class Sharing:
    """Wait until `owner` has computed the first `num_tokens` of its prompt, which are also one's own."""

    owner: Sequence
    num_tokens: int


@dataclass(eq=False)
class Sequence:
    """A request on its way: `tokens` is the prompt followed by what was sampled.

    The first `num_computed_tokens` of `tokens` have their KV cells; `num_cached_tokens` of the prompt were taken over
    from a known prefix; `slot` is the llama.cpp sequence id while admitted. `shifts_context`: where the context is
    full, the oldest tokens behind the prompt's beginning are discarded, instead of ending the answer. `keeps_prefix`:
    the prompt is worth keeping although nobody used it again yet. The answer keeps to `constraint`. Without
    `uses_cache` it neither takes over a known prefix nor leaves one behind. `scores_prompt`: what the model gives to
    each token of the prompt is wanted, and told of `num_scored_tokens` so far.
    """

    request_id: int
    tokens: list[int]
    num_prompt_tokens: int
    max_new_tokens: int
    sampling: SamplingParams
    status: Status = Status.WAITING
    slot: int | None = None
    num_computed_tokens: int = 0
    num_cached_tokens: int = 0
    num_discarded_tokens: int = 0  # of prompt and answer, by context shifts
    shares_with: Sharing | None = None  # while SHARING
    shifts_context: bool = False
    keeps_prefix: bool = False
    constraint: Constraint | None = None
    uses_cache: bool = True
    scores_prompt: bool = False
    num_scored_tokens: int = 0

    @property
    def reusable_tokens(self) -> list[int]:
        """Those whose cells may be others', but for the last one, which is always computed.

        None of those whose logits are still to be read: the logits are not kept with the cells.
        """
        if not self.uses_cache:
            return self.tokens[:1]
        return self.tokens[: max(self.num_scored_tokens, 1)] if self.has_unscored_tokens else self.tokens

    @property
    def has_unscored_tokens(self) -> bool:
        return self.scores_prompt and self.num_scored_tokens < self.num_prompt_tokens

    def is_scored_by(self, position: int) -> bool:
        """Whether the logits of this position's row tell what is not known yet: of the prompt's token behind it."""
        return self.scores_prompt and max(self.num_scored_tokens, 1) <= position + 1 < self.num_prompt_tokens

    @property
    def num_new_tokens(self) -> int:
        return len(self.tokens) + self.num_discarded_tokens - self.num_prompt_tokens

    @property
    def num_pending_tokens(self) -> int:
        """Known tokens that have no KV cells yet: the rest of the prompt, or the token sampled last."""
        return len(self.tokens) - self.num_computed_tokens

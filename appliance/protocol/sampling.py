"""How the next token is chosen. Knows no sampler's code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

DEFAULT_SAMPLERS = (
    "penalties",
    "dry",
    "top_n_sigma",
    "top_k",
    "typ_p",
    "top_p",
    "min_p",
    "xtc",
    "temperature",
)


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How the next token is chosen, and what is reported of it;
    defaults are llama.cpp's.

    Source: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md.
    """

    temperature: float = 0.8  # 0: greedy
    top_k: int = 40  # 0: off
    top_p: float = 0.95  # 1: off
    min_p: float = 0.05  # 0: off
    repeat_penalty: float = 1.0  # 1: off
    repeat_last_n: int = 64  # tokens of prompt and answer that `repeat_penalty` looks at
    # Of the answer alone: OpenAI's definition.
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None  # None: a fresh one
    logit_bias: Mapping[int, float] = field(default_factory=dict)  # by token id
    text_bias: Mapping[str, float] = field(default_factory=dict)  # of each token of a text
    ignore_eos: bool = False
    # The model ends no answer sooner, nor does a stop string; a form that is complete does.
    min_tokens: int = 0
    typical_p: float = 1.0  # 1: off
    top_n_sigma: float = 0.0  # 0: off
    xtc_probability: float = 0.0  # 0: off
    xtc_threshold: float = 0.1
    dry_multiplier: float = 0.0  # 0: off
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_penalty_last_n: int = -1  # tokens of prompt and answer that DRY looks at; -1: all
    dry_sequence_breakers: tuple[str, ...] = ("\n", ":", '"', "*")
    mirostat: int = 0  # 1 or 2 take the place of all filters
    mirostat_tau: float = 5.0
    mirostat_eta: float = 0.1
    dynatemp_range: float = 0.0  # 0: off
    dynatemp_exponent: float = 1.0
    # In the order in which they are applied, by llama.cpp's names; one that is not
    # named is off, whatever its parameters. `infill` is for what belongs between two
    # texts: it compares each token that is left with each other.
    samplers: tuple[str, ...] = DEFAULT_SAMPLERS
    # The log-probability of each token is wanted, and of so many most likely ones
    # beside it; None: none at all.
    num_top_logprobs: int | None = None

    @property
    def has_one_answer(self) -> bool:
        """Whether nothing is drawn, or all that is follows from a seed."""
        if self.seed is not None:
            return True
        return (
            self.temperature <= 0
            and "temperature" in self.samplers
            and not self.dynatemp_range > 0
            and not (self.xtc_probability > 0 and "xtc" in self.samplers)
            and not self.mirostat
        )

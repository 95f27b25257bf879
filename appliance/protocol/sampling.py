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
    """How the next token is chosen, and what is told about it; defaults are llama.cpp's.

    Zero temperature means greedy. `top_k` 0, `top_p` 1, `min_p` 0 and `repeat_penalty`
    1 switch each filter off. `repeat_penalty` looks at the last `repeat_last_n` tokens
    of prompt and answer, the presence and frequency penalties at the answer alone
    (OpenAI's definition). `seed` None draws a fresh one.

    Of llama.cpp's other samplers: `typical_p` 1, `top_n_sigma` 0, `xtc_probability` 0,
    `dry_multiplier` 0 and `dynatemp_range` 0 switch each off. DRY looks at the last
    `dry_penalty_last_n` tokens of prompt and answer (-1: all of them). `mirostat` 1 or
    2 takes the place of all filters.

    `samplers` is the order in which they are applied, by llama.cpp's names; one that is
    not named is off, whatever its parameters. `infill` is for what belongs between two
    texts, and compares each token that is left with each other.

    `num_top_logprobs` asks for the log-probability of each token, and of that many most
    likely ones beside it; None for nothing of the kind.
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

"""Chooses the next tokens of several slots, in several threads where that is sooner.

Knows no batch and no context.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import zip_longest

from appliance.engine.runner import ChosenToken
from appliance.errors import DecodeFailed
from appliance.llama import use_all_cpus
from appliance.llama.sampling.logits import Row, logprobs
from appliance.llama.sampling.sampler import Candidates, SamplerChain

# Logits that llama.cpp's samplers have to see one by one: from so many on, a second
# thread saves more than waking it costs.
_MIN_SHARED_LOGITS = 250_000
_MOST_THREADS = 8


@dataclass(frozen=True)
class Draw:
    """What is to be chosen for one slot."""

    sampler: SamplerChain
    rows: Seq[Row]  # of logits, which must stay as they are meanwhile
    drafted: Seq[int] = ()  # `rows[i + 1]` is what follows `drafted[i]`

    @property
    def num_logits_seen(self) -> int:
        """At most."""
        return sum(map(len, self.rows)) if self.sampler.sees_all else 0


class Sampling:
    """Owns the threads, which start when first needed, and each one's room for
    candidates; `close` ends them.

    `end_tokens` end generation: nothing is chosen behind one.
    """

    def __init__(
        self,
        num_threads: int,
        end_tokens: frozenset[int] = frozenset(),
        min_shared_logits: int = _MIN_SHARED_LOGITS,
    ) -> None:
        self._end_tokens = end_tokens
        self._min_shared_logits = min_shared_logits
        num_threads = max(1, min(num_threads, _MOST_THREADS))
        # the first is the calling thread's
        self._candidates = [Candidates() for _ in range(num_threads)]
        self._pool = ThreadPoolExecutor(
            max(1, num_threads - 1), "sampler", initializer=use_all_cpus
        )

    def choose(self, draws: Seq[Draw]) -> list[list[ChosenToken] | DecodeFailed]:
        """Per draw, in order, tokens as far as drafted ones were right, and one more;
        an error is that draw's alone.
        """
        num_shares = self._num_shares(draws)
        if num_shares == 1:
            return self._choose_each(draws, self._candidates[0])
        others = [
            self._pool.submit(self._choose_each, draws[share::num_shares], self._candidates[share])
            for share in range(1, num_shares)
        ]
        shares = [
            self._choose_each(draws[::num_shares], self._candidates[0]),
            *(other.result() for other in others),
        ]
        return [shares[at % num_shares][at // num_shares] for at in range(len(draws))]

    def close(self) -> None:
        self._pool.shutdown()

    def _num_shares(self, draws: Seq[Draw]) -> int:
        costs = [cost for draw in draws if (cost := draw.num_logits_seen)]
        if len(costs) < 2 or sum(costs) < self._min_shared_logits:
            return 1
        return min(len(costs), len(self._candidates))

    def _choose_each(
        self, draws: Seq[Draw], candidates: Candidates
    ) -> list[list[ChosenToken] | DecodeFailed]:
        # Native code runs without the interpreter's lock, and so does most of NumPy's:
        # threads run beside each other.
        return [self._choose(draw, candidates) for draw in draws]

    def _choose(self, draw: Draw, candidates: Candidates) -> list[ChosenToken] | DecodeFailed:
        choices: list[ChosenToken] = []
        for row, drafted in zip_longest(draw.rows, draw.drafted):
            try:
                choice = _choice(draw.sampler, row, candidates)
            except DecodeFailed as error:
                # What was chosen before it stands; the next step computes this row
                # again.
                return choices or error
            choices.append(choice)
            if choice.token != drafted or choice.token in self._end_tokens:
                break
        return choices


def _choice(sampler: SamplerChain, row: Row, candidates: Candidates) -> ChosenToken:
    token = sampler.choose(row, candidates)
    if sampler.num_top_logprobs is None:
        return ChosenToken(token)
    return ChosenToken(token, logprobs(row, token, sampler.num_top_logprobs))

"""What people ask of a fleet on an ordinary day, and when. Knows no node."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

DAY_S = 86_400.0
_FIRST_TOKEN = 2  # ids below mean something to an engine


@dataclass(frozen=True, kw_only=True)
class Demand:
    """Chats of several turns, whose prompts hold all that was said before."""

    requests_per_day: float
    prompt_tokens: int  # that a turn adds to its chat
    answer_tokens: int
    turns: int = 1  # of a chat
    system_tokens: int = 0  # in front of all chats, the same
    think_s: float = 20.0  # between an answer and the next turn
    peak: float = 2.5  # requests of the busiest hour, as a multiple of the mean's

    @property
    def peak_per_s(self) -> float:
        """Requests a second in the busiest hour."""
        return self.requests_per_day / DAY_S * self.peak

    @property
    def longest(self) -> int:
        """Tokens of the longest request, prompt and answer together."""
        return self.system_tokens + self.turns * (self.prompt_tokens + self.answer_tokens)

    @property
    def mean_prompt_tokens(self) -> float:
        """Of a request, all that was said before included."""
        earlier = (self.turns - 1) / 2 * (self.prompt_tokens + self.answer_tokens)
        return self.system_tokens + earlier + self.prompt_tokens

    @property
    def known_share(self) -> float:
        """Of the prompts' tokens: what somebody has computed before, if it was kept."""
        new = self.prompt_tokens + 1  # of what is known the last token is computed again
        return max(1 - new / self.mean_prompt_tokens, 0.0)


Words = Callable[[int, random.Random], list[int]]  # so many tokens that somebody says


def random_words(num_tokens: int, rng: random.Random) -> list[int]:
    """Of no language: what an engine computes does not depend on it."""
    return [rng.randrange(_FIRST_TOKEN, 1 << 20) for _ in range(num_tokens)]


@dataclass(kw_only=True)
class Chat:
    """One person's, from turn to turn: `tokens` is what has been said.

    What is said and when follows from its own chance alone, whatever a fleet does: so a measured
    one and a simulated one are asked the same.
    """

    tokens: list[int]
    num_left: int  # turns
    says: random.Random
    thinks: random.Random
    words: Words

    def ask(self, demand: Demand) -> None:
        """The next turn's words."""
        self.num_left -= 1
        self.tokens += self.words(demand.prompt_tokens, self.says)

    def think_s(self, demand: Demand) -> float:
        """Until the next turn, from the answer on."""
        return self.thinks.expovariate(1 / max(demand.think_s, 1e-3))


def chats(
    demand: Demand, per_s: float, seed: int, words: Words = random_words
) -> Iterator[tuple[float, Chat]]:
    """When people begin to chat, in seconds from now, without end: by chance, so many that
    all turns together are `per_s` (a Poisson process).
    """
    arrivals = random.Random(seed)
    system = words(demand.system_tokens, random.Random(0))
    at_s = 0.0
    for number in itertools.count():
        at_s += arrivals.expovariate(per_s / demand.turns)
        yield (
            at_s,
            Chat(
                tokens=[*system],
                num_left=demand.turns,
                says=random.Random(f"{seed} says {number}"),
                thinks=random.Random(f"{seed} thinks {number}"),
                words=words,
            ),
        )

"""Drafts what the fake model will say, but for mistakes: right or wrong as a seeded
number generator wants.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from appliance.engine.drafting.drafter import DraftRoom, DraftUse
from appliance.engine.sequence import Sequence as EngineSequence
from tests.engine.fake_runner import END_TOKEN, NUM_VOCAB, next_token


class FakeDrafting:
    """Drafts up to `most_depth` tokens for each,
    each right with probability `chance`.
    """

    def __init__(self, chance: float, most_depth: int, seed: int = 0) -> None:
        self._chance = chance
        self._most_depth = most_depth
        self._rng = random.Random(seed)
        self._asked: set[int] = set()
        self.num_accepted = 0
        self.released: list[int] = []

    def draft(self, room: DraftRoom) -> dict[int, tuple[int, ...]]:
        sequences, most_rows, shape = room.sequences, room.most_rows, room.shape
        assert all(seq.num_pending_tokens == 1 for seq in sequences)
        assert shape(None).num_rows == len(sequences)
        assert shape(most_rows).num_rows == shape(0).num_rows + most_rows
        drafted: dict[int, tuple[int, ...]] = {}
        for seq in sequences:
            depth = min(self._rng.randint(0, self._most_depth), most_rows)
            if depth:
                drafted[seq.request_id] = self._tokens(seq, depth)
                most_rows -= depth
        self._asked = set(drafted)
        return drafted

    def _tokens(self, seq: EngineSequence, depth: int) -> tuple[int, ...]:
        tokens = list(seq.tokens)
        for _ in range(depth):
            token = next_token(tokens)
            token += seq.sampling.ignore_eos and token == END_TOKEN
            tokens.append(token if self._rng.random() < self._chance else (token + 1) % NUM_VOCAB)
        return tuple(tokens[-depth:])

    def observe(self, num_accepted: Mapping[int, int], elapsed_ms: float) -> None:
        assert set(num_accepted) <= self._asked  # not all are computed
        self._asked = set()
        self.num_accepted += sum(num_accepted.values())

    @property
    def total(self) -> DraftUse:
        return DraftUse(num_accepted=self.num_accepted)

    def use(self, slot: int) -> DraftUse:
        return DraftUse(num_accepted=self.num_accepted)

    def remember(self, tokens: Sequence[int]) -> None:
        pass

    def release(self, slot: int, request_id: int) -> None:
        self._asked.discard(request_id)
        self.released.append(request_id)

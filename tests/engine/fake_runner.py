"""A model at the Runner seam that computes by arithmetic: each next token depends on every cell of its sequence."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

from appliance.engine.batch import Batch
from appliance.engine.runner import Capabilities, SampleRequest
from appliance.engine.sequence import SamplingParams
from appliance.errors import DecodeFailed

END_TOKEN = 0
NUM_VOCAB = 50


def next_token(tokens: Sequence[int]) -> int:
    """The fake model: any change of any earlier token changes what comes next."""
    return zlib.crc32(bytes(tokens)) % NUM_VOCAB


class FakeRunner:
    """Holds real cells per slot, so that a wrong position, a leaked cell or a foreign row shows at once."""

    def __init__(
        self,
        num_cells: int = 256,
        num_slots: int = 4,
        max_rows: int = 64,
        cost_ms: Callable[[int], float] = lambda num_rows: 0.0,
    ) -> None:
        self.capabilities = Capabilities(num_cells, num_slots, max_rows, NUM_VOCAB, frozenset({END_TOKEN}))
        self.cells: dict[int, list[int]] = {}
        self.batches: list[Batch] = []
        self.now_s = 0.0
        self.fail_next = False
        self._cost_ms = cost_ms
        self._sampling: dict[int, SamplingParams] = {}

    @property
    def num_used_cells(self) -> int:
        return sum(map(len, self.cells.values()))

    def open_slot(self, slot: int, sampling: SamplingParams, prompt: Sequence[int]) -> None:
        assert slot not in self.cells
        self.cells[slot] = []
        self._sampling[slot] = sampling

    def close_slot(self, slot: int) -> None:
        del self.cells[slot]

    def decode(self, batch: Batch) -> None:
        assert 0 < len(batch) <= self.capabilities.max_rows
        self.batches.append(batch)
        self.now_s += self._cost_ms(len(batch)) / 1000
        if self.fail_next:
            self.fail_next = False
            raise DecodeFailed("as the test wished")
        for row in batch.rows:
            assert row.position == len(self.cells[row.slot]), "positions must follow one another"
            self.cells[row.slot].append(row.token)
        assert self.num_used_cells <= self.capabilities.num_cells

    def sample(self, requests: Sequence[SampleRequest]) -> list[int]:
        tokens = []
        for request in requests:
            row = self.batches[-1].rows[request.row]
            assert row.wants_logits
            assert row.slot == request.slot
            token = next_token(self.cells[request.slot])
            ignores_end = self._sampling[request.slot].ignore_eos
            tokens.append(token + 1 if token == END_TOKEN and ignores_end else token)
        return tokens

    def clock(self) -> float:
        return self.now_s


def answer_alone(prompt: Sequence[int], max_new_tokens: int, ctx: int) -> list[int]:
    """What the fake model answers to one request with nobody else there."""
    tokens = list(prompt)
    while len(tokens) - len(prompt) < max_new_tokens and len(tokens) < ctx:
        tokens.append(next_token(tokens))
        if tokens[-1] == END_TOKEN:
            break
    return tokens[len(prompt) :]

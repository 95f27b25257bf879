"""A model that computes nothing: its steps take the time that a node's were measured to take.

Knows no arrivals and no routes. It stands at the engine's seam (`Runner`), so that what is
simulated is the engine itself: its batches, its cache, its order.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from collections.abc import Sequence as Seq

from appliance.engine.adapters.sets import AdapterSet
from appliance.engine.batch import Batch
from appliance.engine.constraint import Constraint
from appliance.engine.cost import StepCost
from appliance.engine.runner import (
    Capabilities,
    ChosenToken,
    Logprobs,
    SampleRequest,
    ScoreRequest,
)
from appliance.errors import DecodeFailed
from appliance.protocol.sampling import SamplingParams

_LEAST = 0.3  # of what is expected of a step
ANSWER = 1  # every token of every answer


class SavedCells(bytes):
    """As large as saved cells are, and empty."""

    num_bytes: int

    def __len__(self) -> int:
        return self.num_bytes


class SimulatedRunner:
    """`cost` is what steps take; `num_scanned_cells` counts the engine's in a step of so many
    rows. A cell that is saved takes `cell_bytes`, and no time; 0: none is saved. Steps scatter
    around the `cost` by this share of it.
    """

    def __init__(
        self,
        capabilities: Capabilities,
        cost: StepCost,
        *,
        cell_bytes: int,
        scatter: float = 0.0,
        rng: random.Random | None = None,
    ) -> None:
        self.capabilities = capabilities
        self.num_scanned_cells: Callable[[int], int] = lambda num_rows: num_rows
        self.now_s = 0.0
        self._cost = cost
        self._cell_bytes = cell_bytes
        self._scatter = scatter
        self._rng = rng or random.Random(0)
        self._lengths: dict[int, int] = {}  # of sequences, in tokens

    def wait(self, elapsed_s: float) -> None:
        """Computes nothing."""
        self.now_s += elapsed_s

    def clock(self) -> float:
        return self.now_s

    def decode(self, batch: Batch) -> None:
        num_attended = sum(row.position + 1 for row in batch.rows)
        for row in batch.rows:
            self._lengths[row.slot] = row.position + 1
        num_cells = self.num_scanned_cells(len(batch))
        elapsed_ms = self._cost.estimate_ms(self._cost.shape(len(batch), num_attended, num_cells))
        assert elapsed_ms is not None, "a cost model that has seen nothing"
        # by such chances the engine takes one step for too long, and chooses fewer rows
        self.now_s += elapsed_ms / 1000 * max(self._rng.gauss(1, self._scatter), _LEAST)

    def sample(self, requests: Seq[SampleRequest]) -> list[list[ChosenToken] | DecodeFailed]:
        return [[ChosenToken(ANSWER)] for _ in requests]

    def score(self, requests: Seq[ScoreRequest]) -> list[Logprobs | DecodeFailed]:
        return [Logprobs(0.0, ()) for _ in requests]

    def pace(self, share: float) -> float:
        return share

    def save_cells(self, sequence_id: int, first: int, max_bytes: int) -> bytes | None:
        saved = SavedCells()
        saved.num_bytes = (self._lengths.get(sequence_id, 0) - first) * self._cell_bytes
        return saved if 0 < saved.num_bytes <= max_bytes else None

    def load_cells(
        self, target_id: int, data: bytes, first: int, last: int, shift: int = 0
    ) -> bool:
        del data, first, shift  # change no length, as `source_id` below
        self._lengths[target_id] = last
        return True

    def copy_moved(self, *_: object, **__: object) -> bool:
        return False  # nothing is moved

    def open_sampler(
        self,
        slot: int,
        sampling: SamplingParams,
        prompt: Seq[int],
        constraint: Constraint | None = None,
    ) -> None:
        """Nothing to prepare, here and below."""

    def close_sampler(self, slot: int) -> None: ...

    def move_sampler(self, source: int, target: int) -> None: ...

    def copy_cells(self, source_id: int, target_id: int, num_tokens: int) -> None:
        del source_id
        self._lengths[target_id] = num_tokens

    def remove_cells(self, sequence_id: int) -> None:
        self._lengths.pop(sequence_id, None)

    def remove_tail(self, slot: int, num_tokens: int) -> None: ...

    def use_adapters(self, adapters: AdapterSet) -> None: ...

    def synchronize(self) -> None: ...

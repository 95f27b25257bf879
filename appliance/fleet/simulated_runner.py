"""A model that computes nothing: its steps take the time that a node's were measured to take.

Knows no arrivals and no routes. It stands at the engine's seam (`Runner`), so that what is
simulated is the engine itself: its batches, its cache, its order.
"""

from __future__ import annotations

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

ANSWER = 1  # every token of every answer


class SimulatedRunner:
    """`cost` is what steps take; `num_used_cells` counts the engine's."""

    def __init__(self, capabilities: Capabilities, cost: StepCost) -> None:
        self.capabilities = capabilities
        self.num_used_cells: Callable[[], int] = lambda: 0
        self.now_s = 0.0
        self._cost = cost

    def clock(self) -> float:
        return self.now_s

    def decode(self, batch: Batch) -> None:
        num_attended = sum(row.position + 1 for row in batch.rows)
        num_cells = self.num_used_cells() + len(batch)
        elapsed_ms = self._cost.estimate_ms(self._cost.shape(len(batch), num_attended, num_cells))
        assert elapsed_ms is not None, "a cost model that has seen nothing"
        self.now_s += elapsed_ms / 1000

    def sample(self, requests: Seq[SampleRequest]) -> list[list[ChosenToken] | DecodeFailed]:
        return [[ChosenToken(ANSWER)] for _ in requests]

    def score(self, requests: Seq[ScoreRequest]) -> list[Logprobs | DecodeFailed]:
        return [Logprobs(0.0, ()) for _ in requests]

    def pace(self, share: float) -> float:
        return share

    def save_cells(self, *_: object, **__: object) -> bytes | None:
        return None  # nothing is kept in host memory, and nothing moved

    def load_cells(self, *_: object, **__: object) -> bool:
        return False

    def copy_moved(self, *_: object, **__: object) -> bool:
        return False

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

    def copy_cells(self, source_id: int, target_id: int, num_tokens: int) -> None: ...

    def remove_cells(self, sequence_id: int) -> None: ...

    def remove_tail(self, slot: int, num_tokens: int) -> None: ...

    def use_adapters(self, adapters: AdapterSet) -> None: ...

    def synchronize(self) -> None: ...

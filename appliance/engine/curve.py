"""Measures how long a runner's steps take, before the first request.

Knows no sequences and no schedule.
"""

from __future__ import annotations

from collections.abc import Callable

from appliance.engine.batch import Batch
from appliance.engine.cost import StepCost, StepShape
from appliance.engine.runner import Runner

ROWS = (1, 64, 8, 32, 16, 4, 2, 128, 9, 3, 5, 6, 7, 12, 17)  # what is worth most comes first
_ROUNDS = 2  # of `ROWS`, where there is time: one step alone may have been unlucky
# Steps of up to so many rows mostly follow one of as many: all streams' next tokens,
# with the same drafts.
_MAX_STEADY_ROWS = 17
_DEEP_CELLS, _DEEP_STEP_ROWS = 768, 256
_DEEP_ROWS = (1, 64, 8, 32, 4)
# A guess from few rows may be so many times too long: many rows share the reading of
# the weights.
_MAX_OVERESTIMATE = 4


def learn_curve(runner: Runner, cost: StepCost, clock: Callable[[], float], limit_s: float) -> None:
    """Measures steps for `cost`, for at most about `limit_s`.

    First by rows, at an empty cache; then what a long prompt adds to each. No cell may
    be in use, and none is afterwards.
    """
    _Curve(runner, cost, clock, clock() + limit_s).learn()


class _Curve:
    def __init__(
        self, runner: Runner, cost: StepCost, clock: Callable[[], float], deadline_s: float
    ) -> None:
        self._runner = runner
        self._cost = cost
        self._clock = clock
        self._deadline_s = deadline_s

    def learn(self) -> None:
        max_rows = self._runner.capabilities.max_rows
        self._time_prefill(0, min(ROWS[0], max_rows))  # reads weights: not observed
        self._runner.remove_cells(0)
        for num_rows in ROWS * _ROUNDS:
            self._observe_steady(0, num_rows)
            self._runner.remove_cells(0)
        depth, deep_rows = 0, min(_DEEP_STEP_ROWS, max_rows)
        while depth < _DEEP_CELLS and (num_rows := self._observe_prefill(depth, deep_rows)):
            depth += num_rows
        for num_rows in _DEEP_ROWS if depth else ():
            depth += self._observe_steady(depth, num_rows)
        self._runner.remove_cells(0)

    def _observe_steady(self, first: int, num_rows: int) -> int:
        """As `_observe_prefill`, but of few rows twice: the first such step builds a
        graph, its caches are cold.
        """
        if num_rows > _MAX_STEADY_ROWS or self._is_too_much(first, 2 * num_rows):
            return self._observe_prefill(first, num_rows)
        self._time_prefill(first, num_rows)
        return num_rows + self._observe_prefill(first + num_rows, num_rows)

    def _observe_prefill(self, first: int, num_rows: int) -> int:
        """Times a step of one sequence after its first tokens; returns its rows, 0 if
        it does not fit the limits.
        """
        if self._is_too_much(first, num_rows):
            return 0
        self._cost.observe(self._shape(first, num_rows), self._time_prefill(first, num_rows))
        return num_rows

    def _is_too_much(self, first: int, num_rows: int) -> bool:
        """For the runner, or for the time that is left."""
        capabilities = self._runner.capabilities
        expected_ms = (
            self._cost.estimate_ms(self._shape(first, num_rows)) or 0.0
        ) / _MAX_OVERESTIMATE
        is_too_large = num_rows > capabilities.max_rows or first + num_rows > capabilities.num_cells
        return is_too_large or self._clock() + expected_ms / 1000 > self._deadline_s

    def _shape(self, first: int, num_rows: int) -> StepShape:
        return self._cost.shape(
            num_rows, num_rows * first + num_rows * num_rows // 2, first + num_rows
        )

    def _time_prefill(self, first: int, num_rows: int) -> float:
        """Milliseconds for made-up tokens: no kernel's time depends on them, only which
        experts compute them does.
        """
        num_vocab = self._runner.capabilities.num_vocab
        # Steps so small mostly verify drafts, of which every row wants logits.
        is_small = num_rows <= self._runner.capabilities.max_draft_rows
        batch = Batch()
        for position in range(first, first + num_rows):
            wants_logits = is_small or position == first + num_rows - 1
            batch.add((17 + 7919 * position) % num_vocab, position, 0, wants_logits)
        started_s = self._clock()
        self._runner.decode(batch)
        self._runner.synchronize()
        return (self._clock() - started_s) * 1000

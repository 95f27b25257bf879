"""Online model of how long a step takes, and the choice of rows by it.

Knows neither sequences nor llama.cpp.

Two things decide a step's time. Its rows: neither linear nor monotonic, so learned as a
curve, one line per bucket of row counts. And the cells that each row looks at: the
line's slope. From some number of rows on, attention computes them in tiles, so slopes
are only carried over between buckets on the same side of it.
"""

from __future__ import annotations

import copy
import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable
from dataclasses import dataclass

_BUCKETS: tuple[int, ...] = (
    # Each for itself: kernels that compute rows four, eight or sixteen at once make
    # cliffs right after these.
    *range(1, 18),
    *(20, 24, 32, 48, 64, 80, 96, 128, 192, 256, 384, 512),
    *(768, 1024, 1536, 2048, 3072, 4096, 6144, 8192),
)
LONG_RUN = 0.0005  # as `decay`: a line is the mean of its last thousands of steps
# Of so many steps one teaches it: a mean needs no more, and it takes 13 microseconds.
LONG_RUN_EVERY = 8
_DECAY = 0.15  # weight of the newest observation: a line follows a change within about ten steps
_SCATTER_DECAY = 0.01
_CLAMP = 3.0  # one noisy step counts for at most so many times what was expected
_STALE_AFTER_STEPS = 512  # a bucket is doubted then: no noisy step rules it out for ever
_SURE_CELLS = 128.0  # observations spread so far in cells decide half of their slope themselves
_FIRST_ROWS = 64  # tried before anything is known
_BEST_RATE = 0.98  # of the best rate, where nobody waits for a next token
# Of the best rate within the budget: enough, for a shorter step is worth something too.
_GOOD_RATE = 0.92
# A rate so many times the best within the budget is worth a step of up to twice the
# budget.
_MUCH_BETTER = 3.0
_GOOD_RATE_BEYOND = 0.6  # of the best rate there: enough, for a shorter step is worth more


@dataclass(frozen=True)
class AttentionCost:
    """What is known of attention before anything is measured."""

    foreign_cell: float  # looking past another sequence's cell, to one's own cell's cost
    tiled_rows: int = 64  # the least rows of a step that are computed tile by tile


@dataclass(frozen=True)
class StepShape:
    """What decides a step's time."""

    num_rows: int
    # That each row looks at, on average. Cells of other sequences, which it only looks
    # past, count a fraction (`StepCost.shape`).
    cells_per_row: float


_STATE = ("weight", "x", "y", "xx", "xy")  # of a `_Line`, as it is kept between runs


@dataclass(kw_only=True)
class _Line:
    """Decayed least squares of milliseconds against cells per row."""

    last_step: int
    weight: float = 0.0
    x: float = 0.0
    y: float = 0.0
    xx: float = 0.0
    xy: float = 0.0

    def add(self, x: float, y: float, decay: float) -> None:
        keep = 1 - decay
        self.weight = keep * self.weight + 1
        self.x = keep * self.x + x
        self.y = keep * self.y + y
        self.xx = keep * self.xx + x * x
        self.xy = keep * self.xy + x * y

    @property
    def spread(self) -> float:
        """Weighted sum of squares of the cells around their mean."""
        return max(self.xx - self.x * self.x / self.weight, 0.0)

    @property
    def together(self) -> float:
        """Weighted sum of products of cells and milliseconds around their means."""
        return self.xy - self.x * self.y / self.weight

    def slope(self, expected: float) -> float:
        """Milliseconds per cell; as `expected` as long
        as the observations lie close together.
        """
        doubt = self.weight * _SURE_CELLS**2
        return max((self.together + doubt * expected) / (self.spread + doubt), 0.0)

    def at(self, x: float, slope: float) -> float:
        """Never below a tenth of the mean: a line through noise may lead anywhere."""
        mean_y = self.y / self.weight
        return max(mean_y + slope * (x - self.x / self.weight), mean_y / 10)


class StepCost:
    """Learns milliseconds per step from every step,
    and chooses how many rows to compute next.

    `attention`: `Capabilities.attention`; `decay`: how much the newest step counts.
    """

    def __init__(self, attention: AttentionCost, decay: float = _DECAY) -> None:
        self.attention = attention
        self._decay = decay
        self._lines: dict[int, _Line] = {}
        self._known: list[int] = []  # the buckets that have one, ascending
        self._slope_per_row = {False: 0.0, True: 0.0}  # of all buckets that are tiled, or are not
        self._num_steps = 0
        self._scatter_squared = 0.0

    @property
    def scatter(self) -> float:
        """How far steps were from what was expected, as a share of that (root mean square)."""
        return math.sqrt(self._scatter_squared)

    def shape(self, num_rows: int, num_attended: int, num_cells: int) -> StepShape:
        """`num_attended` is the sum of the rows' own cells, `num_cells` the cells that
        every row scans.
        """
        num_foreign = max(num_rows * num_cells - num_attended, 0)
        return StepShape(
            num_rows, (num_attended + self.attention.foreign_cell * num_foreign) / num_rows
        )

    def observe(self, shape: StepShape, elapsed_ms: float) -> None:
        """Records how long a step took."""
        self._num_steps += 1
        expected_ms = self.estimate_ms(shape)
        if expected_ms:
            elapsed_ms = min(elapsed_ms, expected_ms * _CLAMP)
            squared = (elapsed_ms / expected_ms - 1) ** 2
            self._scatter_squared += (squared - self._scatter_squared) * _SCATTER_DECAY
        bucket, is_tiled = _bucket_of(shape.num_rows), shape.num_rows >= self.attention.tiled_rows
        if bucket not in self._lines:
            self._lines[bucket] = _Line(last_step=self._num_steps)
            insort(self._known, bucket)
        line = self._lines[bucket]
        # as if the step had just the bucket's rows
        line.add(shape.cells_per_row, elapsed_ms * bucket / shape.num_rows, self._decay)
        line.last_step = self._num_steps
        self._slope_per_row[is_tiled] = self._pooled_slope(is_tiled)

    def estimate_ms(self, shape: StepShape) -> float | None:
        """Expected milliseconds of a step; None while nothing was ever observed.

        An unknown bucket lies on the line through its neighbours, or through the two
        largest known ones, and never above the next smaller one in proportion: one slow
        large step must not rule out all smaller ones. One that was not seen for long is
        expected where that guess lies, if it is lower.
        """
        if not self._lines:
            return None
        bucket = _bucket_of(shape.num_rows)
        line = self._lines.get(bucket)
        if line is None:
            return self._guess_ms(bucket, shape)
        own_ms = self._at(bucket, shape.cells_per_row) * shape.num_rows / bucket
        is_stale = line.last_step < self._num_steps - _STALE_AFTER_STEPS
        return (
            min(own_ms, self._guess_ms(bucket, shape))
            if is_stale and len(self._lines) > 1
            else own_ms
        )

    def best_rows(
        self,
        num_others: int,
        num_pending: int,
        most: int,
        budget_ms: float,
        shape: Callable[[int], StepShape],
        *,
        is_for_prompts: bool = False,
    ) -> int:
        """How many rows of prompts to compute in a step
        that is to take at most `budget_ms`.

        The step has `num_others` rows in any case and at most `most` in all;
        `num_pending` rows of prompts are to be computed, now and in steps like this
        one. The choice is the shortest step among those that bring these to an end in
        nearly the least time; or the largest where the step `is_for_prompts`, or there
        are no others, for nobody waits then, and it may turn out to be quicker than was
        guessed. Where another
        one is much faster within twice the budget, that is better for everybody who
        waits for these steps; and where none fits the budget, a prompt moves on
        nevertheless. Never more than twice as many rows as were ever seen: a guess from
        few rows may be far off for many.
        """
        most = min(most - num_others, num_pending)
        if not self._lines:
            return min(_FIRST_ROWS, most)
        most = min(most, max(2 * max(self._lines) - num_others, 1))
        choices = [
            self._choice(n, num_others, num_pending, shape)
            for n in _counts(num_others, num_pending, most)
        ]
        within = [c for c in choices if c.elapsed_ms <= budget_ms]
        nearly = [c for c in choices if c.elapsed_ms <= 2 * budget_ms]
        best_within_ms = min((c.until_done_ms for c in within), default=float("inf"))
        if (
            best_within_ms
            <= _MUCH_BETTER * min((c.until_done_ms for c in nearly), default=float("inf"))
            and within
        ):
            return (
                _shortest(within, _GOOD_RATE).num_rows
                if num_others and not is_for_prompts
                else _largest(within, _BEST_RATE).num_rows
            )
        return (
            _shortest(nearly, _GOOD_RATE_BEYOND).num_rows
            if nearly
            else _shortest(choices, 0.0).num_rows
        )

    def _choice(
        self, num_rows: int, num_others: int, num_pending: int, shape: Callable[[int], StepShape]
    ) -> _RowChoice:
        num_steps, num_left = divmod(num_pending, num_rows)
        elapsed_ms = self._known_ms(shape(num_others + num_rows))
        last_ms = self._known_ms(shape(num_others + num_left)) if num_left else 0.0
        return _RowChoice(num_rows, elapsed_ms, num_steps * elapsed_ms + last_ms)

    def idle_cells_within(self, share: float, most: int) -> int:
        """How many cells, up to `most`, a row may look past before one stream is slowed
        by `share`.
        """
        slope = self._slope_per_row[False] * self.attention.foreign_cell
        alone_ms = self.estimate_ms(StepShape(1, 0.0))
        if alone_ms is None or slope <= 0:
            return most
        return min(most, int(share * alone_ms / slope))

    def prefill_ms(self, first: int, last: int) -> float:
        """Expected milliseconds to compute a prompt's positions `first` to `last` - 1;
        0 while nothing is known.
        """
        num_rows = last - first
        if num_rows <= 0 or not self._lines:
            return 0.0
        step_rows = min(num_rows, max(self._lines))
        return self._known_ms(StepShape(step_rows, (first + last) / 2)) * num_rows / step_rows

    def state(self) -> dict[str, list[float]]:
        """What was learned, to be kept between runs: plain numbers."""
        lines = {
            str(b): [line.weight, line.x, line.y, line.xx, line.xy]
            for b, line in self._lines.items()
        }
        return {**lines, "slopes": [self._slope_per_row[False], self._slope_per_row[True]]}

    def restore(self, state: dict[str, list[float]]) -> None:
        """Goes on from an earlier run's `state`.

        Raises `ValueError`, and changes nothing, if it is none.
        """
        slopes = state.get("slopes", [])
        lines = {int(name): values for name, values in state.items() if name != "slopes"}
        # which NaN is not, either
        are_numbers = all(
            0 <= number < math.inf for numbers in state.values() for number in numbers
        )
        if not (are_numbers and lines and len(slopes) == len(self._slope_per_row)) or any(
            bucket not in _BUCKETS or len(values) != len(_STATE) or values[0] <= 0
            for bucket, values in lines.items()
        ):
            raise ValueError("not the state of a cost model")
        self._slope_per_row = {False: slopes[0], True: slopes[1]}
        self._num_steps = 0
        self._lines = {
            bucket: _Line(last_step=self._num_steps, **dict(zip(_STATE, values, strict=True)))
            for bucket, values in lines.items()
        }
        self._known = sorted(self._lines)

    def take_over(self, other: StepCost) -> None:
        """Knows what `other` does."""
        self._slope_per_row = dict(other._slope_per_row)
        self._lines = copy.deepcopy(other._lines)
        self._known = sorted(self._lines)

    def _guess_ms(self, bucket: int, shape: StepShape) -> float:
        """From the buckets around `bucket`."""
        at = bisect_left(self._known, bucket)
        smaller = self._known[max(at - 2, 0) : at]
        larger = next((known for known in self._known[at : at + 2] if known != bucket), None)
        if not smaller:
            assert larger is not None
            return self._at(larger, shape.cells_per_row)
        nearest_ms = self._at(smaller[-1], shape.cells_per_row)
        in_proportion_ms = nearest_ms * shape.num_rows / smaller[-1]
        other = larger or (smaller[-2] if len(smaller) > 1 else None)
        if other is None:
            return in_proportion_ms
        slope = (self._at(other, shape.cells_per_row) - nearest_ms) / (other - smaller[-1])
        on_line_ms = nearest_ms + slope * (shape.num_rows - smaller[-1])
        return min(in_proportion_ms, on_line_ms if larger else max(on_line_ms, nearest_ms))

    def _pooled_slope(self, is_tiled: bool) -> float:
        """Milliseconds per cell and row, over all buckets on one side of tiling, each
        around its own mean.
        """
        lines = [
            (bucket, line)
            for bucket, line in self._lines.items()
            if (bucket >= self.attention.tiled_rows) is is_tiled
        ]
        spread = sum(line.spread for _, line in lines) + _SURE_CELLS**2
        return max(sum(line.together / bucket for bucket, line in lines) / spread, 0.0)

    def _known_ms(self, shape: StepShape) -> float:
        estimate_ms = self.estimate_ms(shape)
        assert estimate_ms is not None
        return estimate_ms

    def _at(self, bucket: int, cells_per_row: float) -> float:
        line = self._lines[bucket]
        return line.at(
            cells_per_row,
            line.slope(self._slope_per_row[bucket >= self.attention.tiled_rows] * bucket),
        )


@dataclass(frozen=True)
class _RowChoice:
    """A number of prompt rows that a step may have."""

    num_rows: int
    elapsed_ms: float  # of the step
    until_done_ms: float  # until all pending rows are computed in steps like this one


def _shortest(choices: list[_RowChoice], good_rate: float) -> _RowChoice:
    """The shortest step among those at `good_rate` of the best one's rate; of equal
    ones that with the most rows.
    """
    best_ms = min(c.until_done_ms for c in choices)
    enough = [c for c in choices if c.until_done_ms * good_rate <= best_ms]
    return min(enough, key=lambda c: (c.elapsed_ms, -c.num_rows))


def _largest(choices: list[_RowChoice], good_rate: float) -> _RowChoice:
    """The step with the most rows among those at `good_rate` of the best one's rate."""
    best_ms = min(c.until_done_ms for c in choices)
    return max(
        (c for c in choices if c.until_done_ms * good_rate <= best_ms), key=lambda c: c.num_rows
    )


class Work:
    """Adds up what steps would have taken by what was known of `cost` at the first one,
    whatever rows they had: what it learns afterwards, also of a machine that slows down,
    does not count.
    """

    def __init__(self, cost: StepCost) -> None:
        self._cost = cost
        self._first: StepCost | None = None
        self.done_ms = 0.0

    def count(self, num_rows: int, num_attended: int, num_cells: int) -> None:
        """A step; see `StepCost.shape`."""
        if self._first is None:
            self._first = copy.deepcopy(self._cost)
        shape = self._first.shape(num_rows, num_attended, num_cells)
        self.done_ms += self._first.estimate_ms(shape) or 0.0


def _bucket_of(num_rows: int) -> int:
    """The largest bucket that is not more than `num_rows`: so 63 rows never count as
    64, which cost a fraction.
    """
    return _BUCKETS[max(bisect_right(_BUCKETS, num_rows) - 1, 0)]


def _counts(num_others: int, num_pending: int, most: int) -> set[int]:
    """Rows of prompts to choose from: those that fill a bucket, and those that leave no
    small rest at the end.
    """
    filling = {most} | {
        bucket - num_others for bucket in _BUCKETS if 0 < bucket - num_others < most
    }
    even = {-(-num_pending // (num_pending // num_rows)) for num_rows in filling}
    return {num_rows for num_rows in filling | even if num_rows <= most}

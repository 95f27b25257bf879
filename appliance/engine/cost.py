"""Online model of how long a step takes for a number of rows. Knows neither sequences nor llama.cpp.

A step's time is neither linear nor monotonic in its rows, so it is learned as a curve: one decayed mean per bucket of
row counts. An unknown bucket is expected to take no longer than the next larger known one, nor longer than the next
smaller one in proportion: the first alone would let one slow large step rule out all smaller ones.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

_BUCKETS = (
    1,
    2,
    3,
    4,
    6,
    8,
    12,
    16,
    24,
    32,
    48,
    64,
    96,
    128,
    192,
    256,
    384,
    512,
    768,
    1024,
    1536,
    2048,
    3072,
    4096,
)
_DECAY = 0.3  # weight of the newest observation: follows a slow change within about five steps
_CLAMP = 3.0  # one noisy step counts for at most this many times what was expected
_FORGET_AFTER_STEPS = 256  # a bucket not seen for so long is guessed anew, so that no noisy step rules it out for ever
_PRUNE_EVERY_STEPS = 64
_FIRST_ROWS = 64  # tried before anything is known


@dataclass
class _Mean:
    elapsed_ms: float
    last_step: int


class StepCost:
    """Learns milliseconds per step from every step, and answers how many rows fit in a budget."""

    def __init__(self) -> None:
        self._means: dict[int, _Mean] = {}
        self._num_steps = 0

    def observe(self, num_rows: int, elapsed_ms: float) -> None:
        """Records that a step of `num_rows` rows took `elapsed_ms`."""
        self._num_steps += 1
        bucket = _bucket_of(num_rows)
        full_ms = elapsed_ms * bucket / num_rows  # as if the bucket had been full
        mean = self._means.setdefault(bucket, _Mean(full_ms, self._num_steps))
        mean.elapsed_ms += _DECAY * (min(full_ms, mean.elapsed_ms * _CLAMP) - mean.elapsed_ms)
        mean.last_step = self._num_steps
        if self._num_steps % _PRUNE_EVERY_STEPS == 0:
            oldest = self._num_steps - _FORGET_AFTER_STEPS
            self._means = {bucket: mean for bucket, mean in self._means.items() if mean.last_step >= oldest}

    def estimate_ms(self, num_rows: int) -> float | None:
        """Expected milliseconds of a step of `num_rows` rows; None while nothing was ever observed."""
        if not self._means:
            return None
        bucket = _bucket_of(num_rows)
        known = sorted(self._means)
        at = bisect_left(known, bucket)
        if at < len(known) and known[at] == bucket:
            return self._means[bucket].elapsed_ms * num_rows / bucket
        bounds = [self._means[larger].elapsed_ms for larger in known[at : at + 1]]
        bounds += [self._means[smaller].elapsed_ms * num_rows / smaller for smaller in known[max(at - 1, 0) : at]]
        return min(bounds)

    def rows_within(self, budget_ms: float, most_rows: int) -> int:
        """The most rows, up to `most_rows`, whose expected step time is within `budget_ms`; 0 if not even one is."""
        if not self._means:
            return min(_FIRST_ROWS, most_rows)
        counts = [most_rows, *(bucket for bucket in reversed(_BUCKETS) if bucket < most_rows)]
        for num_rows in counts:
            estimate_ms = self.estimate_ms(num_rows)
            assert estimate_ms is not None
            if estimate_ms <= budget_ms:
                return num_rows
        return 0


def _bucket_of(num_rows: int) -> int:
    """The smallest bucket that holds `num_rows`."""
    return _BUCKETS[min(bisect_left(_BUCKETS, num_rows), len(_BUCKETS) - 1)]

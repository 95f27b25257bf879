"""Measures memory bandwidth:
copies back and forth with several threads for about half a second.

Remembers nothing.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone

import numpy as np
import numpy.typing as npt

from appliance.fit.machine.bandwidth import Bandwidth

_CHUNK_BYTES = 4 << 20
# Sources and destinations together: less would be copied within the caches, more takes
# too long.
_LEAST_BYTES, _MOST_BYTES = 32 << 20, 512 << 20
_FREE_SHARE = 0.25
_CACHES = 4  # how many times the caches should fit into what is copied (STREAM's rule)
# New pages can be slow to come by: 5 ms for each MiB on a virtual machine that has not
# used them yet.
_FILLING_S, _COPYING_S = 0.3, 0.2
_LEAST_PASSES = 3


class _Part:
    """What one thread copies: chunks of a source into chunks of a destination."""

    def __init__(self) -> None:
        self._chunks: list[tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]] = []

    @property
    def num_bytes(self) -> int:
        return 2 * _CHUNK_BYTES * len(self._chunks)

    def fill(self, num_bytes: int, deadline_s: float) -> None:
        """Grows to `num_bytes` unless time runs out first;
        written to, and so really there.
        """
        while self.num_bytes < num_bytes and time.perf_counter() < deadline_s:
            self._chunks.append(
                (np.full(_CHUNK_BYTES, 1, np.uint8), np.full(_CHUNK_BYTES, 2, np.uint8))
            )

    def copy(self) -> None:
        for source, destination in self._chunks:
            np.copyto(destination, source)  # without Python's lock


def measure_bandwidth(threads: int, free_bytes: int, cache_bytes: int) -> Bandwidth | None:
    """Copies with `threads` threads;
    None where too little of `free_bytes` could be had for it.

    `cache_bytes` is what all caches of the last level hold together, as far as that is
    known.
    """
    wanted_bytes = min(
        max(_CACHES * cache_bytes, 2 * _LEAST_BYTES), _MOST_BYTES, int(free_bytes * _FREE_SHARE)
    )
    if wanted_bytes < max(_LEAST_BYTES, 2 * _CHUNK_BYTES * threads):
        return None
    parts = [_Part() for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        deadline_s = time.perf_counter() + _FILLING_S
        _wait(pool.map(lambda part: part.fill(wanted_bytes // threads, deadline_s), parts))
        copied_bytes = sum(part.num_bytes for part in parts)
        if copied_bytes < _LEAST_BYTES:
            return None
        times_s = _time_passes(pool, parts)
    return Bandwidth(
        copy_bytes_per_s=copied_bytes / min(times_s),
        threads=threads,
        copied_bytes=copied_bytes,
        spread=round(statistics.median(times_s) / min(times_s), 2),
        cached=copied_bytes < _CACHES * cache_bytes,
        date=datetime.now(timezone.utc).date().isoformat(),
    )


def _time_passes(pool: ThreadPoolExecutor, parts: Sequence[_Part]) -> list[float]:
    """Seconds of each pass over all parts."""
    times_s: list[float] = []
    deadline_s = time.perf_counter() + _COPYING_S
    while len(times_s) < _LEAST_PASSES or time.perf_counter() < deadline_s:
        started_s = time.perf_counter()
        _wait(pool.map(_Part.copy, parts))
        times_s.append(time.perf_counter() - started_s)
    return times_s


def _wait(results: Iterator[None]) -> None:
    for _ in results:
        pass

"""What survived, and why not: the rule of the issue, applied to measured phases.

Measures nothing.

Survives: no kill, at least half of the unlimited speed, and no sustained refaults of
the working set.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

LEAST_SPEED = 0.5  # of that without a limit
# Pages of a working set that does not fit are read again for every token, hundreds of
# MiB a second. What is below this are single pages of libraries that were dropped once.
SUSTAINED_REFAULTS_BYTES_PER_S = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Phase:
    """All slots decoding for a while; what is held is as of the phase's end."""

    limit_bytes: int | None  # None: without a limit
    tokens_per_s: float
    refaulted_bytes_per_s: float  # file pages that had been dropped and were read again
    anonymous_bytes: int
    file_bytes: int
    kernel_bytes: int
    num_used_cells: int

    @property
    def used_bytes(self) -> int:
        return self.anonymous_bytes + self.file_bytes + self.kernel_bytes


@dataclass(frozen=True)
class GroupVerdict:
    """Whether a plan survived its limit, and why."""

    survived: bool
    reason: str
    speed: float | None = None  # relative to that without a limit; None: nothing to measure


def judge(phases: Sequence[Phase]) -> GroupVerdict:
    """Of phases under one limit and without one by turns, of which none was killed."""
    limited = [phase for phase in phases if phase.limit_bytes is not None]
    unlimited = [phase for phase in phases if phase.limit_bytes is None]
    speed = _median_speed(limited) / _median_speed(unlimited)
    refaults = statistics.median(phase.refaulted_bytes_per_s for phase in limited)
    if refaults > SUSTAINED_REFAULTS_BYTES_PER_S:
        return GroupVerdict(
            False, f"reads {refaults / 2**20:.0f} MiB/s of its working set again", speed
        )
    if speed < LEAST_SPEED:
        return GroupVerdict(False, "too slow, though nothing is read again", speed)
    return GroupVerdict(True, "survived", speed)


def killed(reason: str) -> GroupVerdict:
    return GroupVerdict(False, reason)


def _median_speed(phases: Sequence[Phase]) -> float:
    return statistics.median(phase.tokens_per_s for phase in phases)

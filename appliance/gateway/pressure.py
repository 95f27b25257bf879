"""Decides what to do without while memory is short:
samples in, steps up and down a ladder out.

Measures nothing.

A step up is followed by a pause, in which its effect can be seen; a step down needs a
while of calm. Between the two marks nothing changes, so that no step is undone by its
own success.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass

from appliance.fit.plan.budget import readable


class Rung(enum.IntEnum):
    """How far up the ladder: each rung keeps what those below it do."""

    CALM = 0
    FEWER_PREFIXES = 1  # saved prefixes leave host memory, as many as it takes
    SHORT_PROMPTS = 2  # none is left there, and new prompts that are long are refused
    FEWER_MODELS = 3  # models that nobody uses are unloaded


_STALL_AVERAGE_S = 10.0  # the kernel's `avg10` is a mean in which what was so long ago counts 1/e


@dataclass(frozen=True)
class Sample:
    """Memory at one moment."""

    left_bytes: int  # of the tightest bound
    bound: str  # the name of that bound, in words
    # of the last ten seconds, in which nothing could run for want of memory
    # (`full avg10` of the kernel's pressure stall information); 0 where the system does
    # not report it
    stall_percent: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Marks:
    """Where pressure begins and where it is over; between them nothing changes."""

    low_bytes: int  # pressed with less left than this
    high_bytes: int  # calm with at least this
    high_stall_percent: float = 10.0
    low_stall_percent: float = 1.0
    pause_s: float = 3.0  # from one step up to the next
    # the same where only stalls show pressure: their average has to follow first
    stall_pause_s: float = 10.0
    # from the last sample that was not calm to a step down, and to each further one
    calm_s: float = 15.0

    @classmethod
    def within(cls, headroom_bytes: int) -> Marks:
        """Of a plan that leaves so much free: it is calm as planned, and pressed once
        half of that is gone.
        """
        return cls(low_bytes=headroom_bytes // 2, high_bytes=headroom_bytes * 3 // 4)


@dataclass(frozen=True)
class Step:
    """Where the ladder was left and where it stands now; the same twice where there is
    no higher rung to go to.
    """

    before: Rung
    rung: Rung

    @property
    def is_up(self) -> bool:
        return self.rung >= self.before


class Ladder:
    """Climbs one rung at a time while memory is short, up to `top`, and comes back down
    the same way.
    """

    def __init__(self, marks: Marks, top: Rung) -> None:
        self._marks = marks
        self._top = top
        self._stepped_s = -math.inf  # up
        self._stall_then = 0.0  # at the last step up
        self._calm_since_s: float | None = None
        self.rung = Rung.CALM

    def step(self, now_s: float, sample: Sample) -> Step | None:
        """What this sample makes necessary.

        At `top` a step is repeated after each pause, for it may help again.
        """
        if not self._is_calm(sample):
            self._calm_since_s = None
        elif self._calm_since_s is None:
            self._calm_since_s = now_s
        if self._is_pressed(now_s, sample):
            return self._up(now_s, sample)
        return self._down(now_s)

    def _up(self, now_s: float, sample: Sample) -> Step:
        self._stepped_s = now_s
        self._stall_then = sample.stall_percent
        return self._move(min(self.rung + 1, self._top))

    def _down(self, now_s: float) -> Step | None:
        is_over = (
            self._calm_since_s is not None and now_s - self._calm_since_s >= self._marks.calm_s
        )
        if self.rung is Rung.CALM or not is_over:
            return None
        self._calm_since_s = now_s
        return self._move(self.rung - 1)

    def _move(self, rung: int) -> Step:
        step = Step(self.rung, Rung(rung))
        self.rung = step.rung
        return step

    def _is_pressed(self, now_s: float, sample: Sample) -> bool:
        """Still, or anew, once the last step up had time to help."""
        passed_s = now_s - self._stepped_s
        if sample.left_bytes < self._marks.low_bytes:
            return passed_s >= self._marks.pause_s
        if passed_s < self._marks.stall_pause_s:
            return False
        forgotten = 1 - math.exp(-passed_s / _STALL_AVERAGE_S)
        stall_percent_since = (
            sample.stall_percent - self._stall_then * (1 - forgotten)
        ) / forgotten
        return stall_percent_since >= self._marks.high_stall_percent

    def _is_calm(self, sample: Sample) -> bool:
        return (
            sample.left_bytes >= self._marks.high_bytes
            and sample.stall_percent < self._marks.low_stall_percent
        )


def prefix_bounds(held_bytes: Mapping[str, int], sample: Sample, marks: Marks) -> dict[str, int]:
    """How many bytes of saved prefixes each model may keep, so that all together give
    what is short; the same share.

    Where only stalls show pressure, not how much is short, none.
    """
    num_held = sum(held_bytes.values())
    if sample.left_bytes >= marks.low_bytes or num_held == 0:
        return dict.fromkeys(held_bytes, 0)
    kept_share = max(0.0, 1 - (marks.high_bytes - sample.left_bytes) / num_held)
    return {model_id: int(kept_share * num_bytes) for model_id, num_bytes in held_bytes.items()}


def describe(sample: Sample) -> str:
    """`12.0 MiB left of the budget of 1.00 GiB`,
    and how long everything stood still, if it did.
    """
    words = f"{readable(max(0, sample.left_bytes))} left {sample.bound}"
    if sample.stall_percent >= 1:
        words += f", everything waited for memory in {sample.stall_percent:.0f} % of the last 10 s"
    return words

"""The two CPU paths of llama.cpp, what is known of each, and which one to take. Knows no file and starts no process.

A path is how weights are laid out: plain, or in extra buffer types (repacked, AMX tiles). On some virtual machines the
CPU offers AMX and the hypervisor loses its state: llama.cpp then dies sooner or later, or computes garbage.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, replace

from appliance.errors import NoUsableCpuPath

PREFILL_ROWS = (16, 64, 256)
DECODE_STREAMS = (1, 4)
# Plain weights stay mapped from the file, once; repacked ones are a second copy in memory. So much must be gained.
MIN_GAIN = 0.05
# Median over best; an idle machine stays below 1.2 (the first step after the other path's has cold caches).
MAX_NOISE = 1.5


class CpuPath(str, enum.Enum):
    PLAIN = "plain"
    EXTRA_BUFTS = "extra_bufts"

    @property
    def label(self) -> str:
        return "plain weights" if self is CpuPath.PLAIN else "extra buffer types"

    @property
    def other(self) -> CpuPath:
        return CpuPath.EXTRA_BUFTS if self is CpuPath.PLAIN else CpuPath.PLAIN


@dataclass(frozen=True)
class PathTimes:
    """Best times in milliseconds: of a prompt of so many rows in one decode, of a step of so many streams.

    `noise` is the worst ratio, over these, of the median time to the best: how far anybody else's work disturbed.
    """

    prefill_ms: dict[int, float]
    decode_ms: dict[int, float]
    noise: float

    @property
    def is_noisy(self) -> bool:
        return self.noise > MAX_NOISE


@dataclass(frozen=True)
class Demotion:
    """A worker died on this path although its probe went well; `date` as in ISO 8601."""

    reason: str
    date: str


@dataclass(frozen=True)
class PathResult:
    """What is known of one path; `reason` says why it works or not, `times` are there once it was timed."""

    works: bool
    reason: str
    times: PathTimes | None = None
    demotion: Demotion | None = None

    @property
    def usable(self) -> bool:
        return self.works and self.demotion is None

    @property
    def finding(self) -> str:
        """In words, why it is usable or not."""
        if self.works and self.demotion is not None:
            return f"given up on {self.demotion.date}: {self.demotion.reason}"
        return self.reason


@dataclass(frozen=True)
class Choice:
    path: CpuPath
    reason: str


@dataclass(frozen=True)
class CpuPaths:
    """Both paths of one CPU and one library."""

    plain: PathResult
    extra_bufts: PathResult

    def of(self, path: CpuPath) -> PathResult:
        return self.plain if path is CpuPath.PLAIN else self.extra_bufts

    def choose(self) -> Choice:
        """The fastest usable path; plain weights unless the other gains `MIN_GAIN`, or where nothing was timed.

        Raises `NoUsableCpuPath`.
        """
        if not self.plain.usable and not self.extra_bufts.usable:
            raise NoUsableCpuPath(
                "llama.cpp works on no CPU path of this machine: plain weights: "
                f"{self.plain.finding}; extra buffer types: {self.extra_bufts.finding}. Build it again with "
                "./install.sh; `appliance doctor` tells more."
            )
        if not self.plain.usable or not self.extra_bufts.usable:
            path = CpuPath.PLAIN if self.plain.usable else CpuPath.EXTRA_BUFTS
            return Choice(path, "the only one that is usable")
        if self.plain.times is None or self.extra_bufts.times is None:
            return Choice(CpuPath.PLAIN, "not timed yet (`appliance doctor` does it)")
        return _faster(relative_time(self.extra_bufts.times, self.plain.times))

    def use_extra_bufts(self) -> bool:
        """Whether the chosen path is that of the extra buffer types. Raises `NoUsableCpuPath`."""
        return self.choose().path is CpuPath.EXTRA_BUFTS

    def with_result(self, path: CpuPath, result: PathResult) -> CpuPaths:
        return replace(self, plain=result) if path is CpuPath.PLAIN else replace(self, extra_bufts=result)

    def with_demotion(self, path: CpuPath, demotion: Demotion | None) -> CpuPaths:
        """The same with `path` given up, or, with None, taken back."""
        return self.with_result(path, replace(self.of(path), demotion=demotion))

    def with_demotions_of(self, earlier: CpuPaths) -> CpuPaths:
        return CpuPaths(
            replace(self.plain, demotion=earlier.plain.demotion),
            replace(self.extra_bufts, demotion=earlier.extra_bufts.demotion),
        )


def relative_time(times: PathTimes, reference: PathTimes) -> float:
    """How long `times` takes compared with `reference`; below 1 it is faster.

    The geometric mean of three ratios of equal weight: a step of one stream, a step of four, and prefill, which is
    itself the geometric mean over its lengths. Ratios count alike whatever the model's size, which sums would not.
    """
    decode = [times.decode_ms[streams] / reference.decode_ms[streams] for streams in DECODE_STREAMS]
    prefill = _geometric_mean([times.prefill_ms[rows] / reference.prefill_ms[rows] for rows in PREFILL_ROWS])
    return _geometric_mean([*decode, prefill])


def _faster(ratio: float) -> Choice:
    """Of two usable paths, `ratio` being the time of extra buffer types over that of plain weights."""
    if ratio < 1 - MIN_GAIN:
        return Choice(CpuPath.EXTRA_BUFTS, f"takes {100 * (1 - ratio):.0f} % less time than plain weights")
    if ratio <= 1:
        return Choice(CpuPath.PLAIN, f"within {100 * MIN_GAIN:.0f} % of the other, and its weights are in memory once")
    return Choice(CpuPath.PLAIN, f"extra buffer types take {100 * (ratio - 1):.0f} % more time")


def _geometric_mean(ratios: list[float]) -> float:
    return math.exp(sum(math.log(ratio) for ratio in ratios) / len(ratios))

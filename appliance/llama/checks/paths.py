"""The two CPU paths of llama.cpp, and what is known of each.

Knows no speed, no file and starts no process.

A path is how weights are laid out: plain, or in extra buffer types (repacked, AMX
tiles). On some virtual machines the CPU offers AMX and the hypervisor loses its state:
llama.cpp then dies sooner or later, or computes garbage.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

from appliance.errors import NoUsableCpuPath


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
class Demotion:
    """A worker died on this path although its probe went well."""

    reason: str
    date: str  # ISO 8601


@dataclass(frozen=True)
class PathResult:
    """What is known of one path."""

    works: bool
    reason: str  # why it works or not
    demotion: Demotion | None = None
    waits_for: str = ""  # what is to be known before it is used, although nothing is wrong

    @property
    def usable(self) -> bool:
        return self.works and self.demotion is None and not self.waits_for

    @property
    def finding(self) -> str:
        """In words, why it is usable or not."""
        if self.works and self.demotion is not None:
            return f"given up on {self.demotion.date}: {self.demotion.reason}"
        return self.waits_for if self.works and self.waits_for else self.reason


@dataclass(frozen=True)
class PathChoice:
    path: CpuPath
    reason: str


@dataclass(frozen=True)
class CpuPaths:
    """Both paths of one CPU and one library."""

    plain: PathResult
    extra_bufts: PathResult
    untested: tuple[str, ...] = ()  # names of files for which there was no time yet

    def of(self, path: CpuPath) -> PathResult:
        return self.plain if path is CpuPath.PLAIN else self.extra_bufts

    def choose(self) -> PathChoice:
        """The path to take where nobody has measured: plain weights, which are in
        memory once, if they are usable.

        Raises `NoUsableCpuPath`.
        """
        if not self.plain.usable and not self.extra_bufts.usable:
            raise NoUsableCpuPath(
                "llama.cpp does not work on any CPU path of this machine. Plain weights: "
                f"{self.plain.finding}; extra buffer types: {self.extra_bufts.finding}. Rebuild it "
                "with ./install.sh; 'appliance doctor' shows more."
            )
        if not self.plain.usable or not self.extra_bufts.usable:
            path = CpuPath.PLAIN if self.plain.usable else CpuPath.EXTRA_BUFTS
            return PathChoice(path, "the only one that is usable")
        return PathChoice(
            CpuPath.PLAIN,
            "both are usable, and these are in memory once; `appliance tune` measures the speed",
        )

    def use_extra_bufts(self) -> bool:
        """Whether the chosen path is that of the extra buffer types.

        Raises `NoUsableCpuPath`.
        """
        return self.choose().path is CpuPath.EXTRA_BUFTS

    def with_result(self, path: CpuPath, result: PathResult) -> CpuPaths:
        return (
            replace(self, plain=result)
            if path is CpuPath.PLAIN
            else replace(self, extra_bufts=result)
        )

    def with_demotion(self, path: CpuPath, demotion: Demotion | None) -> CpuPaths:
        """The same with `path` given up, or, with None, taken back."""
        return self.with_result(path, replace(self.of(path), demotion=demotion))

    def with_demotions_of(self, earlier: CpuPaths) -> CpuPaths:
        return replace(
            self,
            plain=replace(self.plain, demotion=earlier.plain.demotion),
            extra_bufts=replace(self.extra_bufts, demotion=earlier.extra_bufts.demotion),
        )

    def after(self, earlier: CpuPaths) -> CpuPaths:
        """What was found of other files before counts too: a path works if it did so
        then and now.
        """
        both = self.with_demotions_of(earlier)
        for path in CpuPath:
            if not earlier.of(path).works:
                both = both.with_result(path, replace(earlier.of(path), waits_for=""))
        return both

"""Whether each kernel of our own computes what llama.cpp's does, and as fast: the parent's
side, which calls nothing native itself.

A crash costs a child, and all kernels. What was found is remembered in a file, per CPU,
library of ours and library of llama.cpp. Knows no setting.
"""

from __future__ import annotations

import hashlib
import logging
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from appliance.llama.checks.child import describe_end
from appliance.llama.checks.kernel_library import KernelLibrary
from appliance.llama.checks.memory import machine_key

_log = logging.getLogger(__name__)

SELF_TEST = (sys.executable, "-m", "appliance.llama.kernels.self_test")
_TIMEOUT_S = 60.0
_MAX_REMEMBERED = 8  # libraries
# Squared, of the squared result: what rounding to other blocks gives is below 1e-4, and
# ggml's own tests of its back ends allow 5e-4. Broken ones are above 1e-2.
MAX_ERROR = 1e-3
# ggml's time over ours: below it a kernel loses. Less than 1, for times vary.
MIN_SPEEDUP = 0.95


class KernelResult(msgspec.Struct, frozen=True, kw_only=True):
    """One kernel beside llama.cpp's own."""

    name: str
    error: float  # squared difference over squared result, the largest of what was computed
    speedups: dict[int, float]  # ggml's time over ours, by the number of rows

    @property
    def speedup(self) -> float:
        """The geometric mean: all numbers of rows count alike."""
        return statistics.geometric_mean(self.speedups.values())

    @property
    def is_right(self) -> bool:
        return self.error <= MAX_ERROR  # also false for NaN

    @property
    def flaw(self) -> str:
        """Why it is not used; empty if it is."""
        if not self.is_right:
            return f"computes something else (error {self.error:.2g})"
        if self.speedup < MIN_SPEEDUP:
            return f"is slower than llama.cpp's ({self.speedup:.2f} of its speed)"
        return ""


class KernelTest(msgspec.Struct, frozen=True, kw_only=True):
    """All of them, or why there is nothing to say of any."""

    version: str = ""
    variant: str = ""  # the instruction set
    results: tuple[KernelResult, ...] = ()
    untested: tuple[str, ...] = ()  # what the child has nothing to compare with
    left: tuple[str, ...] = ()  # for which there was no time: not used yet
    failure: str = ""

    @property
    def is_whole(self) -> bool:
        return bool(self.failure) or (bool(self.version) and not self.left)

    def without_slow(self) -> KernelTest:
        """The same where times say nothing: those that lost are left to the next time."""
        slow = tuple(r.name for r in self.results if r.is_right and r.flaw)
        kept = tuple(r for r in self.results if r.name not in slow)
        return msgspec.structs.replace(self, results=kept, left=(*self.left, *slow))

    def usable(self, *, with_slow: bool = False) -> tuple[str, ...]:
        """Names of those that are right, and, unless `with_slow`, not slower."""
        if self.failure:
            return ()
        tested = [r.name for r in self.results if (r.is_right if with_slow else not r.flaw)]
        return (*tested, *self.untested)


class KernelStart(msgspec.Struct, frozen=True, tag="start"):
    """The child's first line."""

    version: str
    variant: str
    names: tuple[str, ...]
    untested: tuple[str, ...]


class KernelBegun(msgspec.Struct, frozen=True, tag="begun"):
    """What the child computes next: what it dies of, if it does."""

    name: str


class KernelCompared(msgspec.Struct, frozen=True, tag="compared"):
    result: KernelResult


class KernelsDone(msgspec.Struct, frozen=True, tag="done"):
    """The child's last line."""


KernelLine = KernelStart | KernelBegun | KernelCompared | KernelsDone


def run_kernel_test(
    library: KernelLibrary,
    threads: int,
    command: Sequence[str] = SELF_TEST,
    limit_s: float = _TIMEOUT_S,
    known: KernelTest | None = None,
) -> KernelTest:
    """`known` with all that it lacked, as far as `limit_s` goes, and until somebody kills the
    child; the rest is left.

    `command` is followed by the library, the threads and what is known.
    """
    known = known or KernelTest()
    names = [result.name for result in known.results]
    try:
        child = subprocess.run(
            [*command, str(library.path), str(threads), *names],
            capture_output=True,
            timeout=min(limit_s, _TIMEOUT_S),
            check=False,
        )
    except subprocess.TimeoutExpired as stopped:
        if limit_s < _TIMEOUT_S:
            return _read(stopped.stdout or b"", known)
        words = f"their test did not end within {_TIMEOUT_S:.0f} s"
        return msgspec.structs.replace(known, left=(), failure=words)
    found = _read(child.stdout, known)
    lines = list(_lines(child.stdout))
    if child.returncode == 0 and lines and isinstance(lines[-1], KernelsDone):
        return found
    if child.returncode == -signal.SIGKILL:  # from outside, as where memory ran out
        return found
    begun = [line.name for line in lines if isinstance(line, KernelBegun)]
    at = f" in {begun[-1]}" if begun else ""
    end = describe_end(child.returncode, child.stderr.decode(errors="replace"))
    return msgspec.structs.replace(found, left=(), failure=f"their test {end}{at}")


def _read(output: bytes, known: KernelTest) -> KernelTest:
    lines = list(_lines(output))
    if not lines or not isinstance(lines[0], KernelStart):
        return known
    start = lines[0]
    compared = (line.result for line in lines if isinstance(line, KernelCompared))
    results = (*known.results, *compared)
    seen = {*start.untested, *(result.name for result in results)}
    return KernelTest(
        version=start.version,
        variant=start.variant,
        results=results,
        untested=start.untested,
        left=tuple(name for name in start.names if name not in seen),
    )


def _lines(output: bytes) -> Iterator[KernelLine]:
    """As far as they are whole."""
    for line in output.splitlines():
        try:
            yield msgspec.json.decode(line, type=KernelLine)
        except msgspec.DecodeError:
            return


# --- what is remembered ---------------------------------------------------------------


@dataclass(frozen=True)
class _TestsFile:
    """The file's content; `tests` by `_key`, the latest last."""

    version: Literal[1]
    tests: dict[str, KernelTest]


class KernelMemory:
    """What `state_file` remembers."""

    def __init__(self, state_file: Path) -> None:
        self._state_file = state_file

    def recall(self, library: KernelLibrary) -> KernelTest | None:
        return self._read().get(_key(library))

    def remember(self, library: KernelLibrary, test: KernelTest) -> None:
        """Written by rename.

        A directory that cannot be written to costs the memory, not the service.
        """
        key = _key(library)
        others = [item for item in self._read().items() if item[0] != key]
        tests = dict([*others, (key, test)][-_MAX_REMEMBERED:])
        temporary = self._state_file.with_name(f"{self._state_file.name}.{os.getpid()}")
        try:
            self._state_file.parent.mkdir(parents=True, exist_ok=True)
            content = msgspec.json.encode(_TestsFile(1, tests))
            temporary.write_bytes(msgspec.json.format(content, indent=1))
            temporary.replace(self._state_file)
        except OSError as error:
            _log.warning("the findings about the kernels cannot be saved: %s", error)

    def _read(self) -> dict[str, KernelTest]:
        try:
            return msgspec.json.decode(self._state_file.read_bytes(), type=_TestsFile).tests
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError) as error:
            _log.warning("%s cannot be used and will be rewritten: %s", self._state_file, error)
            return {}


def _key(library: KernelLibrary) -> str:
    return hashlib.sha256(f"{machine_key()} {library.build}".encode()).hexdigest()[:16]

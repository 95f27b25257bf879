"""What a process has of the machine's memory, and what is left of it. Knows no limits.

Linux counts both in /proc/PID/statm, which costs 15 microseconds; the exact
/proc/PID/smaps_rollup walks the page tables, which takes 5 ms for 230 MiB of mapped
weights and holds the process's memory lock all the while.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class MemoryUse:
    """Resident bytes; what several processes map counts for each.

    Where the system does not tell them apart (not Linux), all are anonymous.
    """

    anonymous_bytes: int = 0  # only swapping could free them
    file_bytes: int = 0  # of mapped files or shared memory

    @property
    def total_bytes(self) -> int:
        return self.anonymous_bytes + self.file_bytes


def memory_use(pid: int) -> MemoryUse | None:
    """None for a process that is gone."""
    try:
        info = psutil.Process(pid).memory_info()
    except psutil.NoSuchProcess:
        return None
    file_bytes = getattr(info, "shared", 0)
    return MemoryUse(info.rss - file_bytes, file_bytes)


@dataclass(frozen=True)
class ExactMemory:
    """Resident bytes; what several processes map is divided
    among them, but for `rss_bytes`.
    """

    rss_bytes: int  # what several processes map counts in full
    pss_bytes: int  # this process's share
    anonymous_bytes: int  # of `pss_bytes`
    file_bytes: int  # of `pss_bytes`


def exact_memory(pid: int) -> ExactMemory | None:
    """From /proc/PID/smaps_rollup (proc(5)), which costs milliseconds; None for a
    process that is gone.

    Where there is no such file, nothing is divided.
    """
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        use = memory_use(pid)
        if use is None:
            return None
        return ExactMemory(use.total_bytes, use.total_bytes, use.anonymous_bytes, use.file_bytes)
    kib = {
        fields[0]: int(fields[1])
        for line in lines
        if len(fields := line.split()) == 3 and fields[2] == "kB"
    }
    anonymous, pss = (
        1024 * kib.get("Pss_Anon:", kib.get("Anonymous:", 0)),
        1024 * kib.get("Pss:", 0),
    )
    return ExactMemory(1024 * kib.get("Rss:", 0), pss, anonymous, max(0, pss - anonymous))


def available_bytes() -> int:
    """What the machine could give without swapping,
    page cache included (MemAvailable on Linux).
    """
    return int(psutil.virtual_memory().available)

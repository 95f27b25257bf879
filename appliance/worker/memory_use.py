"""What a process has of the machine's memory, and what is left of it, at the price of microseconds. Knows no limits.

Linux counts both in /proc/PID/statm, which costs 15 microseconds; the exact /proc/PID/smaps_rollup walks the page
tables, which takes 5 ms for 230 MiB of mapped weights and holds the process's memory lock all the while.
"""

from __future__ import annotations

from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class MemoryUse:
    """Resident bytes: anonymous ones, which only swapping could free, and those of mapped files or shared memory.

    What several processes map counts for each. Where the system does not tell them apart (not Linux), all are
    anonymous.
    """

    anonymous_bytes: int = 0
    file_bytes: int = 0

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


def available_bytes() -> int:
    """What the machine could give without swapping, page cache included (MemAvailable on Linux)."""
    return int(psutil.virtual_memory().available)

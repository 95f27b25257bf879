"""The machine's memory and swap, and what of it this process holds already.

Knows no limit and no group.

Sources: proc(5) on /proc/meminfo and /proc/PID/status.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from appliance.fit.machine.kernel_files import parse_kib, read_fields


@dataclass(frozen=True)
class OwnMemory:
    """What this process has resident."""

    anonymous_bytes: int
    mapped_bytes: int  # of files, mostly libraries


@dataclass(frozen=True, kw_only=True)
class Memory:
    """The machine's memory and swap."""

    total_bytes: int
    available_bytes: int  # without swapping (MemAvailable), page cache included
    # of that cache; in use, though the kernel would drop it
    mapped_by_others_bytes: int
    swap_total_bytes: int
    swap_free_bytes: int


def own_memory(root: Path) -> OwnMemory:
    status = read_fields(root / "proc/self/status")
    return OwnMemory(
        parse_kib(status.get("RssAnon", "")) or 0, parse_kib(status.get("RssFile", "")) or 0
    )


def machine_memory(root: Path, own: OwnMemory) -> Memory | None:
    """What /proc/meminfo says; None if it lacks the total."""
    sizes = {name: parse_kib(text) for name, text in read_fields(root / "proc/meminfo").items()}
    total = sizes.get("MemTotal")
    if not total:
        return None

    def size(name: str) -> int:
        return sizes.get(name) or 0

    available = sizes.get("MemAvailable")
    if available is None:  # before 3.14
        available = size("MemFree") + size("Cached")
    # At least so much: shared memory is among what counts as mapped, and is no cache
    # that could be dropped.
    mapped = min(size("Mapped") - size("Shmem"), size("Active(file)") + size("Inactive(file)"))
    return Memory(
        total_bytes=total,
        available_bytes=min(available, total),
        mapped_by_others_bytes=max(0, mapped - own.mapped_bytes),
        swap_total_bytes=size("SwapTotal"),
        swap_free_bytes=size("SwapFree"),
    )

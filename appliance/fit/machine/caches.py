"""The caches of the last level that our CPUs use. Knows no other level and no speed.

Source: Linux Documentation/ABI/testing/sysfs-devices-system-cpu.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from appliance.fit.machine.kernel_files import parse_number, read_number, read_text

_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def last_level_cache_bytes(root: Path, cpus: Sequence[int]) -> int | None:
    """All of them together, each counted once; None where the kernel shows none.

    A virtual machine sees its host's cache, which it shares with others.
    """
    by_sharers: dict[str, int] = {}
    for cpu in cpus:
        found = [cache for path in _indexes(root, cpu) if (cache := _cache(path)) is not None]
        if found:
            _, sharers, size = max(found)
            by_sharers[sharers or f"of CPU {cpu}"] = size
    return sum(by_sharers.values()) if by_sharers else None


def _indexes(root: Path, cpu: int) -> list[Path]:
    return list((root / f"sys/devices/system/cpu/cpu{cpu}/cache").glob("index[0-9]*"))


def _cache(directory: Path) -> tuple[int, str, int] | None:
    """(level, CPUs that share it, bytes) of one that holds data."""
    level, size = read_number(directory / "level"), _size(read_text(directory / "size"))
    if level is None or size is None or read_text(directory / "type") == "Instruction":
        return None
    return level, read_text(directory / "shared_cpu_list"), size


def _size(text: str) -> int | None:
    """`266240K`."""
    number = parse_number(text[:-1])
    return (
        number * _UNITS[text[-1]]
        if number is not None and number > 0 and text[-1] in _UNITS
        else None
    )

"""Memory and CPU limits of the control groups this process is in, versions 1 and 2. Knows no machine around them.

Sources: Linux Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst; proc(5) for cgroup and mountinfo.
Limits are inherited: what counts is the tightest of a group and all its ancestors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_NO_LIMIT_BYTES = 1 << 60  # version 1 writes "no limit" as the largest multiple of a page


@dataclass(frozen=True)
class MemoryLimit:
    """One group's limit in bytes, and how much of it is left once the kernel has dropped the group's page cache."""

    group: str
    limit_bytes: int
    free_bytes: int


@dataclass(frozen=True)
class _Mount:
    """Where one hierarchy is seen: `directory` shows the group `root`; version 2 has no `controllers` here."""

    root: str
    directory: Path
    controllers: frozenset[str]


def memory_limits(root: Path) -> tuple[MemoryLimit, ...]:
    """The memory limits in force, one per limited group from the process's own up; `root` is / but for tests."""
    limits = []
    for version, directory in _groups(root, "memory"):
        limit = _memory_limit_v2(directory) if version == 2 else _memory_limit_v1(directory)
        if limit is not None:
            limits.append(limit)
    return tuple(limits)


def cpu_quota(root: Path) -> float | None:
    """How many CPUs' time this process may use, e.g. 1.5; None without a quota."""
    quotas = []
    for version, directory in _groups(root, "cpu"):
        quota = _cpu_quota_v2(directory) if version == 2 else _cpu_quota_v1(directory)
        if quota is not None:
            quotas.append(quota)
    return min(quotas, default=None)


def _memory_limit_v2(directory: Path) -> MemoryLimit | None:
    # Beyond memory.high a group is throttled until it is as good as dead: it bounds us like memory.max.
    limits = [n for n in (_number(directory / "memory.max"), _number(directory / "memory.high")) if n is not None]
    if not limits:
        return None
    stat = _stat(directory / "memory.stat")
    cache = stat.get("active_file", 0) + stat.get("inactive_file", 0)
    return _limit(directory, min(limits), _number(directory / "memory.current"), cache)


def _memory_limit_v1(directory: Path) -> MemoryLimit | None:
    limit = _number(directory / "memory.limit_in_bytes")
    if limit is None or limit >= _NO_LIMIT_BYTES:
        return None
    stat = _stat(directory / "memory.stat")
    cache = stat.get("total_active_file", 0) + stat.get("total_inactive_file", 0)
    return _limit(directory, limit, _number(directory / "memory.usage_in_bytes"), cache)


def _limit(directory: Path, limit_bytes: int, used_bytes: int | None, cache_bytes: int) -> MemoryLimit:
    used = max(0, (used_bytes or 0) - cache_bytes)
    return MemoryLimit(str(directory), limit_bytes, max(0, limit_bytes - used))


def _cpu_quota_v2(directory: Path) -> float | None:
    words = _text(directory / "cpu.max").split()
    return int(words[0]) / int(words[1]) if len(words) == 2 and words[0].isdigit() else None


def _cpu_quota_v1(directory: Path) -> float | None:
    quota = _number(directory / "cpu.cfs_quota_us")
    period = _number(directory / "cpu.cfs_period_us")
    return quota / period if quota is not None and period and quota > 0 else None


def _groups(root: Path, controller: str) -> Iterator[tuple[int, Path]]:
    """(cgroup version, directory) of this process's group and each ancestor that can be seen, innermost first."""
    mounts = list(_mounts(root))
    for line in _text(root / "proc/self/cgroup").splitlines():
        hierarchy, names, group = [*line.split(":", 2), "", ""][:3]
        version = 2 if hierarchy == "0" and not names else 1
        if version == 1 and controller not in names.split(","):
            continue
        for mount in mounts:
            if (controller in mount.controllers) if version == 1 else not mount.controllers:
                yield from ((version, directory) for directory in _upwards(root, mount, group))
                break


def _upwards(root: Path, mount: _Mount, group: str) -> Iterator[Path]:
    top = root / mount.directory.relative_to("/")
    below = _below(mount.root, group)
    yield top.joinpath(*below)
    while below:
        below = below[:-1]
        yield top.joinpath(*below)


def _below(mount_root: str, group: str) -> tuple[str, ...]:
    """The group's path under its mount; () if it lies outside, as in a container that sees just its own group."""
    parts, top = Path(group).parts[1:], Path(mount_root).parts[1:]
    if parts[: len(top)] != top or ".." in parts:
        return ()
    return parts[len(top) :]


def _mounts(root: Path) -> Iterator[_Mount]:
    """Control-group mounts of /proc/self/mountinfo: `ID PARENT DEV ROOT POINT OPTIONS [TAG...] - TYPE SOURCE SUPER`."""
    for line in _text(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or len(kind) < 3 or kind[0] not in ("cgroup", "cgroup2"):
            continue
        controllers = frozenset(kind[2].split(",")) if kind[0] == "cgroup" else frozenset()
        yield _Mount(_unescape(fields[3]), Path(_unescape(fields[4])), controllers)


def _unescape(path: str) -> str:
    """mountinfo writes space, tab, newline and backslash as octal escapes."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)


def _stat(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in _text(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _number(path: Path) -> int | None:
    """The file's number; None for the word `max`, and where the file is not there."""
    text = _text(path).strip()
    return int(text) if text.lstrip("-").isdigit() else None


def _text(path: Path) -> str:
    """Empty where the kernel does not offer the file, or not to us: then there is no such limit that we could know."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""

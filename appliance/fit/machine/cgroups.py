"""Memory, swap and CPU limits of the control groups this process is in.

Knows no machine around them.

Sources: Linux Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst. Limits
are inherited: what counts is the tightest of a group and all its ancestors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from appliance.fit.machine.cgroup_tree import Group, own_groups
from appliance.fit.machine.kernel_files import parse_cpu_list, parse_number, read_number, read_text

_NO_LIMIT_BYTES = 1 << 60  # version 1 writes "no limit" as the largest multiple of a page


@dataclass(frozen=True, kw_only=True)
class MemoryLimit:
    """One group's memory limit, and how much of it is left."""

    group: str
    limit_bytes: int
    free_bytes: int  # once the kernel has dropped the page cache that nobody maps
    # Page cache that processes map (a model being served). It is in use: without it
    # they would read their files again and again.
    mapped_bytes: int = 0
    kind: str = "memory.max"  # the limit's name in the kernel's files


def memory_limits(root: Path, own_mapped_bytes: int = 0) -> tuple[MemoryLimit, ...]:
    """The memory limits in force, one per limited group from the process's own up;
    `root` is / but for tests.

    `own_mapped_bytes` are file pages that the asking process itself maps: they are not
    in use by others.
    """
    limits = (
        _memory_limit_v2(group.directory, own_mapped_bytes)
        if group.version == 2
        else _memory_limit_v1(group.directory, own_mapped_bytes)
        for group in _charged(own_groups(root, "memory"))
    )
    return tuple(limit for limit in limits if limit is not None)


def swap_left_bytes(root: Path) -> int | None:
    """How much more swap our groups may use; None if they do not limit it.

    It may be more than the machine has.
    """
    left = []
    for group in _charged(own_groups(root, "memory")):
        # Version 1 counts memory and swap together: what is left of both is the most
        # that may become swap.
        names = ("memory.swap.max", "memory.swap.current")
        if group.version == 1:
            names = ("memory.memsw.limit_in_bytes", "memory.memsw.usage_in_bytes")
        limit = read_number(group.directory / names[0])
        if limit is not None and 0 <= limit < _NO_LIMIT_BYTES:
            left.append(max(0, limit - (read_number(group.directory / names[1]) or 0)))
    return min(left, default=None)


def cpu_quota(root: Path) -> float | None:
    """How many CPUs' time this process may use, e.g. 1.5: the tightest of its groups;
    None without a quota.
    """
    quotas = (
        _cpu_quota_v2(group.directory) if group.version == 2 else _cpu_quota_v1(group.directory)
        for group in own_groups(root, "cpu")
    )
    return min((cpus for cpus in quotas if cpus is not None), default=None)


def cpuset(root: Path) -> frozenset[int] | None:
    """The CPUs that our own group may use, ancestors already counted in; None where no
    controller says.
    """
    for group in own_groups(root, "cpuset"):
        name = "cpuset.cpus.effective" if group.version == 2 else "cpuset.effective_cpus"
        cpus = parse_cpu_list(read_text(group.directory / name))
        if cpus:
            return frozenset(cpus)
    return None


def _charged(groups: tuple[Group, ...]) -> Iterator[Group]:
    """Of version 1, only those that our memory is charged to: old kernels let groups
    leave their children's out.
    """
    switched_off = False
    for number, group in enumerate(groups):
        if group.version == 1:
            is_parent = number > 0 and groups[number - 1].version == 1
            if is_parent and read_number(group.directory / "memory.use_hierarchy") == 0:
                switched_off = True
            if switched_off:
                continue
        yield group


def _memory_limit_v2(directory: Path, own_mapped_bytes: int) -> MemoryLimit | None:
    # Beyond memory.high a group is throttled until it is as good as dead: it bounds us
    # like memory.max.
    named = [(read_number(directory / name), name) for name in ("memory.max", "memory.high")]
    limits = [(limit, name) for limit, name in named if limit is not None and limit >= 0]
    if not limits:
        return None
    stat = _stat(directory)
    cache = stat.get("active_file", 0) + stat.get("inactive_file", 0)
    mapped = _mapped_by_others(
        stat.get("file_mapped", 0) - stat.get("shmem", 0), cache, own_mapped_bytes
    )
    limit, name = min(limits, key=lambda pair: pair[0])
    used = (read_number(directory / "memory.current") or 0) - cache + mapped
    return MemoryLimit(
        group=str(directory),
        limit_bytes=limit,
        free_bytes=_left(limit, used),
        mapped_bytes=mapped,
        kind=name,
    )


def _memory_limit_v1(directory: Path, own_mapped_bytes: int) -> MemoryLimit | None:
    stat = _stat(directory)
    # The least of the ancestors' limits too, which a container's mount may not show.
    inherited = stat.get("hierarchical_memory_limit", _NO_LIMIT_BYTES)
    own = read_number(directory / "memory.limit_in_bytes")
    limit = min(own if own is not None and own >= 0 else _NO_LIMIT_BYTES, inherited)
    if limit >= _NO_LIMIT_BYTES:
        return None
    cache = stat.get("total_active_file", 0) + stat.get("total_inactive_file", 0)
    mapped = stat.get("total_mapped_file", 0) - stat.get("total_shmem", 0)
    mapped = _mapped_by_others(mapped, cache, own_mapped_bytes)
    used = (read_number(directory / "memory.usage_in_bytes") or 0) - cache + mapped
    return MemoryLimit(
        group=str(directory),
        limit_bytes=limit,
        free_bytes=_left(limit, used),
        mapped_bytes=mapped,
        kind="memory.limit_in_bytes",
    )


def _mapped_by_others(mapped_bytes: int, cache_bytes: int, own_bytes: int) -> int:
    """At least so much of the page cache is in use: the kernel counts shared memory
    among what is mapped.
    """
    return max(0, min(mapped_bytes, cache_bytes) - own_bytes)


def _left(limit_bytes: int, used_bytes: int) -> int:
    return max(0, limit_bytes - max(0, used_bytes))


def _cpu_quota_v2(directory: Path) -> float | None:
    words = read_text(directory / "cpu.max").split()
    return _cpus(parse_number(words[0]), parse_number(words[1])) if len(words) == 2 else None


def _cpu_quota_v1(directory: Path) -> float | None:
    return _cpus(
        read_number(directory / "cpu.cfs_quota_us"), read_number(directory / "cpu.cfs_period_us")
    )


def _cpus(quota_us: int | None, period_us: int | None) -> float | None:
    """-1, and the word `max`, mean no quota."""
    if quota_us is None or period_us is None or quota_us <= 0 or period_us <= 0:
        return None
    return quota_us / period_us


def _stat(directory: Path) -> dict[str, int]:
    pairs = (line.split() for line in read_text(directory / "memory.stat").splitlines())
    numbers = ((pair[0], parse_number(pair[1])) for pair in pairs if len(pair) == 2)
    return {name: number for name, number in numbers if number is not None and number >= 0}

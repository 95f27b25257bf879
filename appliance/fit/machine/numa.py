"""NUMA nodes: which CPUs and how much memory each has, and which of them are ours.

Knows no distance between them.

Sources: Linux Documentation/ABI/stable/sysfs-devices-node; proc(5) on
Mems_allowed_list.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.fit.machine.kernel_files import parse_cpu_list, parse_kib, read_fields, read_text


@dataclass(frozen=True, kw_only=True)
class NumaNode:
    """One node; it may have CPUs only, or memory only."""

    number: int
    cpus: tuple[int, ...]
    our_cpus: tuple[int, ...]  # those that this process may use
    memory_bytes: int
    available_bytes: int  # free memory, and page cache that nobody maps
    ours: bool  # this process may use its memory


def numa_nodes(root: Path, usable_cpus: Sequence[int]) -> tuple[NumaNode, ...]:
    """Every node that shows its memory; none where the kernel knows no nodes."""
    base = root / "sys/devices/system/node"
    allowed = parse_cpu_list(read_fields(root / "proc/self/status").get("Mems_allowed_list", ""))
    nodes = (
        _node(base / f"node{number}", number)
        for number in parse_cpu_list(read_text(base / "online")) or ()
    )
    return tuple(
        NumaNode(
            number=node.number,
            cpus=node.cpus,
            our_cpus=tuple(sorted(set(node.cpus).intersection(usable_cpus))),
            memory_bytes=node.memory_bytes,
            available_bytes=node.available_bytes,
            ours=not allowed or node.number in allowed,
        )
        for node in nodes
        if node is not None
    )


def available_bytes(nodes: Sequence[NumaNode]) -> int | None:
    """What our nodes have left; None where we may use the memory of all."""
    if all(node.ours for node in nodes if node.memory_bytes):
        return None
    return sum(node.available_bytes for node in nodes if node.ours)


@dataclass(frozen=True)
class _Node:
    number: int
    cpus: tuple[int, ...]
    memory_bytes: int
    available_bytes: int


def _node(directory: Path, number: int) -> _Node | None:
    # `Node 0 MemTotal:       24684092 kB`
    prefix = f"Node {number} "
    sizes = {
        name.removeprefix(prefix): parse_kib(text)
        for name, text in read_fields(directory / "meminfo").items()
        if name.startswith(prefix)
    }
    total, free = sizes.get("MemTotal"), sizes.get("MemFree")
    if total is None or free is None:
        return None
    cache = (sizes.get("Active(file)") or 0) + (sizes.get("Inactive(file)") or 0)
    mapped = max(0, (sizes.get("Mapped") or 0) - (sizes.get("Shmem") or 0))
    cpus = parse_cpu_list(read_text(directory / "cpulist")) or ()
    return _Node(number, cpus, total, min(total, free + max(0, cache - mapped)))

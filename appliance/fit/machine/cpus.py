"""Which CPUs this process may use, which of them share a core,
and which cores are quick.

Knows no memory.

Sources: Linux Documentation/admin-guide/cputopology.rst,
ABI/testing/sysfs-devices-system-cpu; proc(5).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.fit.machine.cgroups import cpuset
from appliance.fit.machine.kernel_files import (
    parse_cpu_list,
    parse_number,
    read_fields,
    read_number,
    read_text,
)

_CPU = "sys/devices/system/cpu"
# Of the quickest core. The kernel's capacity is relative speed: little cores have 0.2
# to 0.65, the second of three kinds 0.75 and more. Clocks differ less: efficiency cores
# 0.55 to 0.82, favoured cores of one kind 0.9 and more.
_LEAST_CAPACITY = 0.7
_LEAST_CLOCK = 0.85


@dataclass(frozen=True)
class CoreKinds:
    """Physical cores among the usable ones, where there are two kinds."""

    performance: int
    efficiency: int
    source: str  # what shows which core is of which kind


@dataclass(frozen=True, kw_only=True)
class Cpus:
    """The CPUs that this process may use."""

    name: str | None  # of the CPU's model
    usable: tuple[int, ...]  # numbers of logical CPUs
    cores: int  # physical ones that `usable` belong to
    kinds: CoreKinds | None
    flags: frozenset[str]


@dataclass(frozen=True)
class Threads:
    count: int
    reason: str


def choose_threads(cores: int, kinds: CoreKinds | None, quota: float | None) -> Threads:
    """One thread per performance core, never more than the quota pays for.

    A slow core holds up all others at the end of every operation; threads beyond the
    quota use it up early in each period and then sleep, also while the others wait for
    them.
    """
    count, reason = cores, f"one for each of {cores} physical cores"
    if kinds is not None:
        count = kinds.performance
        reason = (
            f"one for each of {count} performance cores; the {kinds.efficiency} efficiency cores "
            "would slow them down"
        )
    if quota is not None and quota < count:
        count, reason = (
            max(1, math.floor(quota)),
            f"the CPU quota allows {quota:g} CPUs, fewer than the {count} cores",
        )
    return Threads(max(1, count), reason)


def read_cpus(root: Path) -> Cpus:
    usable = _usable(root)
    core_of = {cpu: _core(root, cpu) for cpu in usable}
    cpuinfo = read_fields(root / "proc/cpuinfo")
    flags = cpuinfo.get("flags") or cpuinfo.get("Features") or ""  # x86, Arm
    return Cpus(
        name=cpuinfo.get("model name")
        or read_text(root / "proc/device-tree/model").rstrip("\0")
        or None,
        usable=usable,
        cores=len(set(core_of.values())),
        kinds=_kinds(root, core_of),
        flags=frozenset(flags.split()),
    )


def _usable(root: Path) -> tuple[int, ...]:
    """Affinity and cpuset, without CPUs that are switched off or were never there:
    affinities count those in.
    """
    online = parse_cpu_list(read_text(root / _CPU / "online"))
    allowed = parse_cpu_list(read_fields(root / "proc/self/status").get("Cpus_allowed_list", ""))
    usable = set(allowed or online or (0,))
    for limit in (online, cpuset(root)):
        # where they contradict each other, affinity is what the kernel does
        if limit and not usable.isdisjoint(limit):
            usable.intersection_update(limit)
    return tuple(sorted(usable))


def _core(root: Path, cpu: int) -> str:
    """Names the physical core that `cpu` is a thread of; each CPU its own core where
    the kernel does not say.
    """
    topology = root / _CPU / f"cpu{cpu}/topology"
    # core_id alone repeats in every cluster of an Arm machine: the list of siblings is
    # sure.
    for name in ("core_cpus_list", "thread_siblings_list"):
        siblings = parse_cpu_list(read_text(topology / name))
        if siblings and cpu in siblings:
            return f"core of CPU {siblings[0]}"
    ids = [read_text(topology / name) for name in ("physical_package_id", "cluster_id", "core_id")]
    return f"core {ids}" if ids[0] and ids[2] else f"core of CPU {cpu}"


def _kinds(root: Path, core_of: Mapping[int, str]) -> CoreKinds | None:
    """None where all usable cores are alike, as far as the kernel shows."""
    quick, source = _quick_cpus(root, tuple(core_of))
    performance = {core_of[cpu] for cpu in quick}
    efficiency = set(core_of.values()) - performance
    return (
        CoreKinds(len(performance), len(efficiency), source) if performance and efficiency else None
    )


def _quick_cpus(root: Path, cpus: Sequence[int]) -> tuple[set[int], str]:
    """The CPUs that are performance cores, and what says so; none if nothing does."""
    intel = parse_cpu_list(read_text(root / "sys/devices/cpu_core/cpus"))
    if intel:
        return set(intel).intersection(cpus), "/sys/devices/cpu_core"
    capacity = {cpu: read_number(root / _CPU / f"cpu{cpu}/cpu_capacity") for cpu in cpus}
    if len(set(capacity.values())) > 1:  # equal capacities may stand for "not known" on x86
        return _quickest(capacity, _LEAST_CAPACITY), "cpu_capacity"
    clock = {
        cpu: parse_number(read_text(root / _CPU / f"cpu{cpu}/cpufreq/cpuinfo_max_freq"))
        for cpu in cpus
    }
    return _quickest(clock, _LEAST_CLOCK), "cpuinfo_max_freq"


def _quickest(speeds: Mapping[int, int | None], least_share: float) -> set[int]:
    """Those of at least `least_share` of the highest speed;
    none unless all are known.
    """
    known = {cpu: speed for cpu, speed in speeds.items() if speed is not None and speed > 0}
    if len(known) < len(speeds):
        return set()
    least = least_share * max(known.values(), default=0)
    return {cpu for cpu, speed in known.items() if speed >= least}

"""What this machine offers a model: memory, limits, cores, GPUs, disk, heat.

Knows no model, and how each is measured.

Linux is read through /proc and /sys below a root that tests replace; other systems
through psutil.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from appliance.errors import SetupError
from appliance.fit.machine.accelerators import Accelerator, own_memory_bytes, unified_memory
from appliance.fit.machine.bandwidth import Bandwidth
from appliance.fit.machine.caches import last_level_cache_bytes
from appliance.fit.machine.cgroups import MemoryLimit, cpu_quota, memory_limits, swap_left_bytes
from appliance.fit.machine.cpus import CoreKinds, Threads, choose_threads, read_cpus
from appliance.fit.machine.disk import Disk, free_disk
from appliance.fit.machine.macos import MacCpus, read_mac_cpus
from appliance.fit.machine.memory import machine_memory, own_memory
from appliance.fit.machine.numa import NumaNode, available_bytes, numa_nodes
from appliance.fit.machine.psi import Pressure, memory_pressure
from appliance.fit.machine.thermal import Thermal, read_thermal


@dataclass(frozen=True, kw_only=True)
class Device:
    """The machine as this process may use it, measured at one moment; None and () mean
    not known.
    """

    ram_total_bytes: int
    ram_available_bytes: int  # MemAvailable: with page cache that the kernel would give back
    memory_limit: MemoryLimit | None  # of the control group with the least left
    usable_cpus: int  # logical ones, of our affinity and cpuset
    usable_cores: int  # physical ones among them
    cpu_quota: float | None  # CPUs' time
    cpu_flags: frozenset[str] = frozenset()  # as /proc/cpuinfo names them
    cpu_name: str | None = None
    core_kinds: CoreKinds | None = None  # where cores differ in speed
    cache_bytes: int | None = None  # caches of the last level, all together
    mapped_by_others_bytes: int = 0  # part of the available memory's page cache
    own_anonymous_bytes: int = 0  # held by this process, so not among what is available
    numa_available_bytes: int | None = None  # of our nodes, where cpusets keep us off others
    numa_nodes: tuple[NumaNode, ...] = ()
    swap_total_bytes: int = 0  # only shown: nothing is planned into swap
    swap_free_bytes: int = 0
    pressure: Pressure | None = None
    accelerators: tuple[Accelerator, ...] = ()
    unified_memory: str | None = None  # what makes the GPU compute on the machine's memory
    bandwidth: Bandwidth | None = None
    disk: Disk | None = None
    thermal: Thermal | None = None

    @property
    def free_bytes(self) -> int:
        """What can be taken now without swapping, passing a limit, or pushing out what
        others compute with.
        """
        bounds = [self.ram_unused_bytes]
        if self.memory_limit is not None:
            bounds.append(self.memory_limit.free_bytes)
        if self.numa_available_bytes is not None:
            bounds.append(self.numa_available_bytes)
        return min(bounds)

    @property
    def ram_unused_bytes(self) -> int:
        """The machine's available memory without files that others map: a model being
        served stays in memory.
        """
        return max(0, self.ram_available_bytes - self.mapped_by_others_bytes)

    @property
    def vram_free_bytes(self) -> int:
        """Free memory of GPUs that have their own."""
        return own_memory_bytes(self.accelerators, self.unified_memory)

    @property
    def threads(self) -> int:
        """One per performance core, never more than the quota pays for."""
        return self.thread_choice.count

    @property
    def thread_choice(self) -> Threads:
        return choose_threads(self.usable_cores, self.core_kinds, self.cpu_quota)


def measure_device(
    root: Path = Path("/"),
    *,
    models_dir: Path | None = None,
    accelerators: Sequence[Accelerator] = (),
) -> Device:
    """The device as it is now, with the disk of `models_dir`; `accelerators` take
    native code to find.

    Its bandwidth is left out: that takes time (`memory_copy`). Raises `SetupError` if
    the system does not say how much memory there is.
    """
    disk = free_disk(models_dir) if models_dir is not None else None
    if not (root / "proc/meminfo").is_file():
        return _measure_elsewhere(tuple(accelerators), disk)
    own = own_memory(root)
    memory = machine_memory(root, own)
    if memory is None:
        raise SetupError(
            f"{root / 'proc/meminfo'} does not say how much memory this machine has (no MemTotal). "
            "Check that /proc is mounted."
        )
    cpus = read_cpus(root)
    nodes = numa_nodes(root, cpus.usable)
    # A limit above all there is limits nothing.
    limits = [
        limit
        for limit in memory_limits(root, own.mapped_bytes)
        if limit.limit_bytes < memory.total_bytes
    ]
    swap_left = swap_left_bytes(root)
    return Device(
        ram_total_bytes=memory.total_bytes,
        ram_available_bytes=memory.available_bytes,
        memory_limit=min(limits, key=lambda limit: limit.free_bytes, default=None),
        usable_cpus=len(cpus.usable),
        usable_cores=cpus.cores,
        cpu_quota=cpu_quota(root),
        cpu_flags=cpus.flags,
        cpu_name=cpus.name,
        core_kinds=cpus.kinds,
        cache_bytes=last_level_cache_bytes(root, cpus.usable),
        mapped_by_others_bytes=memory.mapped_by_others_bytes,
        own_anonymous_bytes=own.anonymous_bytes,
        numa_available_bytes=available_bytes(nodes),
        numa_nodes=nodes,
        swap_total_bytes=memory.swap_total_bytes,
        swap_free_bytes=min(
            memory.swap_free_bytes, memory.swap_free_bytes if swap_left is None else swap_left
        ),
        pressure=memory_pressure(root),
        accelerators=tuple(accelerators),
        unified_memory=unified_memory(root),
        disk=disk,
        thermal=read_thermal(root, cpus.usable),
    )


def _measure_elsewhere(accelerators: tuple[Accelerator, ...], disk: Disk | None) -> Device:
    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    cpus = psutil.cpu_count() or 1
    mac = read_mac_cpus() if platform.system() == "Darwin" else MacCpus(None, None, None)
    return Device(
        ram_total_bytes=memory.total,
        ram_available_bytes=memory.available,
        memory_limit=None,
        usable_cpus=cpus,
        usable_cores=psutil.cpu_count(logical=False) or cpus,
        cpu_quota=None,
        cpu_name=mac.name,
        core_kinds=mac.kinds,
        swap_total_bytes=swap.total,
        swap_free_bytes=swap.free,
        accelerators=accelerators,
        unified_memory=mac.unified_memory,
        disk=disk,
    )

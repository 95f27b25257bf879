"""What this machine offers a model: memory, control-group limits, cores. Knows no model.

Linux is read through /proc and /sys below a root that tests replace; other systems through psutil.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import psutil

from appliance.errors import SetupError
from appliance.fit.cgroups import MemoryLimit, cpu_quota, memory_limits


@dataclass(frozen=True)
class Device:
    """The machine as this process may use it, measured at one moment. Sizes in bytes.

    `ram_available_bytes` counts the page cache that the kernel would give back (MemAvailable). `usable_cpus` are the
    logical CPUs of our affinity and cpuset, `usable_cores` the physical ones among them, `cpu_flags` the features that
    /proc/cpuinfo names (none where there is no such file).
    """

    ram_total_bytes: int
    ram_available_bytes: int
    memory_limit: MemoryLimit | None
    usable_cpus: int
    usable_cores: int
    cpu_quota: float | None
    cpu_flags: frozenset[str] = frozenset()

    @property
    def free_bytes(self) -> int:
        """What can be taken now without swapping and without passing a limit."""
        limit = self.memory_limit
        return self.ram_available_bytes if limit is None else min(self.ram_available_bytes, limit.free_bytes)

    @property
    def threads(self) -> int:
        """One per physical core, never more than the quota pays for: threads beyond it wait for each other asleep."""
        quota = math.inf if self.cpu_quota is None else self.cpu_quota
        return max(1, int(min(self.usable_cores, quota)))


def measure(root: Path = Path("/")) -> Device:
    """The device as it is now. Raises `SetupError` if the system does not tell its memory."""
    if not (root / "proc/meminfo").is_file():
        return _measure_elsewhere()
    total, available = _memory(root)
    limits = memory_limits(root)
    cpus = _usable_cpus(root)
    return Device(
        ram_total_bytes=total,
        ram_available_bytes=available,
        memory_limit=min(limits, key=lambda limit: limit.free_bytes, default=None),
        usable_cpus=len(cpus),
        usable_cores=len({_core(root, cpu) for cpu in cpus}),
        cpu_quota=cpu_quota(root),
        cpu_flags=_cpu_flags(root),
    )


def _measure_elsewhere() -> Device:
    memory = psutil.virtual_memory()
    cpus = psutil.cpu_count() or 1
    return Device(memory.total, memory.available, None, cpus, psutil.cpu_count(logical=False) or cpus, None)


def _memory(root: Path) -> tuple[int, int]:
    """(MemTotal, MemAvailable) in bytes; the file counts in KiB."""
    fields = {}
    for line in (root / "proc/meminfo").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        words = value.split()
        if words and words[0].isdigit():
            fields[name] = int(words[0]) * 1024
    if "MemTotal" not in fields:
        raise SetupError(f"{root / 'proc/meminfo'} does not tell how much memory there is. Give --ram.")
    old_kernel = fields.get("MemFree", 0) + fields.get("Cached", 0)  # before 3.14 there was no MemAvailable
    return fields["MemTotal"], fields.get("MemAvailable", old_kernel)


def _usable_cpus(root: Path) -> list[int]:
    """The CPUs this process may run on; /proc/self/status has affinity and cpuset already combined."""
    for line in (root / "proc/self/status").read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name == "Cpus_allowed_list":
            return _cpu_list(value.strip())
    return [0]


def _cpu_flags(root: Path) -> frozenset[str]:
    """The first CPU's features: `flags` on x86, `Features` on Arm."""
    path = root / "proc/cpuinfo"
    if not path.is_file():
        return frozenset()
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def _cpu_list(text: str) -> list[int]:
    """`0-3,8` -> [0, 1, 2, 3, 8]."""
    cpus: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first.isdigit():
            cpus.extend(range(int(first), int(last or first) + 1))
    return cpus or [0]


def _core(root: Path, cpu: int) -> tuple[str, str]:
    """Names the physical core that `cpu` is a thread of; each CPU its own core where the kernel does not say."""
    topology = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
    try:
        package = (topology / "physical_package_id").read_text(encoding="ascii").strip()
        return package, (topology / "core_id").read_text(encoding="ascii").strip()
    except OSError:
        return "cpu", str(cpu)

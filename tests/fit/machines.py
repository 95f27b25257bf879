"""Fake /proc and /sys trees for `device.measure_device`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

GIB = 1 << 30


def write_machine(root: Path, files: Mapping[str, str] | None = None, *, cpus: str = "0-3") -> Path:
    """A machine of 16 GiB (12 available) and four CPUs that are two cores; `files` are
    added or replaced.
    """
    tree = {
        "proc/meminfo": f"MemTotal: {16 * GIB // 1024} kB\nMemFree: 100 kB\nMemAvailable: "
        f"{12 * GIB // 1024} kB\n",
        "proc/self/status": f"Name:\tx\nCpus_allowed:\tf\nCpus_allowed_list:\t{cpus}\n",
        "proc/self/cgroup": "0::/\n",
        "proc/self/mountinfo": mount("cgroup2", "/", "/sys/fs/cgroup", "rw"),
        "proc/cpuinfo": "processor\t: 0\nflags\t\t: fpu avx2 avx512f\n",
    }
    for cpu in range(4):
        topology = f"sys/devices/system/cpu/cpu{cpu}/topology"
        tree |= {f"{topology}/physical_package_id": "0\n", f"{topology}/core_id": f"{cpu % 2}\n"}
    for name, text in (tree | dict(files or {})).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def mount(kind: str, root: str, point: str, options: str) -> str:
    return f"30 20 0:26 {root} {point} rw,nosuid - {kind} cgroup {options}\n"

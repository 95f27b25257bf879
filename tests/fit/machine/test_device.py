"""Memory, limits and cores as /proc and /sys tell them, on machines and in containers
of either cgroup version.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from appliance.errors import SetupError
from appliance.fit.machine.device import measure_device
from appliance.fit.plan.budget import memory_budget
from tests.fit.machines import GIB, mount, write_machine

MIB = 1 << 20


def test_a_plain_machine(tmp_path: Path) -> None:
    device = measure_device(write_machine(tmp_path))

    assert (device.ram_total_bytes, device.ram_available_bytes, device.free_bytes) == (
        16 * GIB,
        12 * GIB,
        12 * GIB,
    )
    assert (device.usable_cpus, device.usable_cores, device.threads) == (4, 2, 2)
    assert (device.memory_limit, device.cpu_quota) == (None, None)
    assert device.cpu_flags == {"fpu", "avx2", "avx512f"}


def test_this_machine_agrees_with_psutil() -> None:
    device = measure_device()

    assert device.ram_total_bytes == psutil.virtual_memory().total
    assert 1 <= device.threads <= device.usable_cpus == len(psutil.Process().cpu_affinity())


@pytest.mark.parametrize(
    ("cpus", "num_cpus", "num_cores"), [("0", 1, 1), ("0,2", 2, 1), ("0-1", 2, 2), ("1-3", 3, 2)]
)
def test_affinity_and_siblings(tmp_path: Path, cpus: str, num_cpus: int, num_cores: int) -> None:
    device = measure_device(write_machine(tmp_path, cpus=cpus))

    assert (device.usable_cpus, device.usable_cores) == (num_cpus, num_cores)


def test_cgroup_v2_the_tightest_ancestor_counts_and_page_cache_is_given_back(
    tmp_path: Path,
) -> None:
    group = "sys/fs/cgroup/system.slice/docker.scope"
    files = {
        "proc/self/cgroup": "0::/system.slice/docker.scope\n",
        f"{group}/memory.max": f"{4 * GIB}\n",
        f"{group}/memory.current": f"{GIB}\n",
        f"{group}/memory.stat": f"anon 5\nactive_file {100 * MIB}\ninactive_file {200 * MIB}\n",
        f"{group}/cpu.max": "max 100000\n",
        "sys/fs/cgroup/system.slice/memory.max": f"{3 * GIB}\n",
        "sys/fs/cgroup/system.slice/memory.current": f"{2 * GIB}\n",
        "sys/fs/cgroup/system.slice/cpu.max": "150000 100000\n",
    }

    device = measure_device(write_machine(tmp_path, files))

    assert device.memory_limit is not None
    assert device.memory_limit.limit_bytes == 3 * GIB
    assert device.free_bytes == GIB
    assert (device.cpu_quota, device.threads) == (1.5, 1)

    (tmp_path / "sys/fs/cgroup/system.slice/memory.max").write_text("max\n")
    assert measure_device(tmp_path).free_bytes == 3 * GIB + 300 * MIB


def test_cgroup_v2_memory_high_is_a_limit_too(tmp_path: Path) -> None:
    files = {
        "sys/fs/cgroup/memory.max": f"{4 * GIB}\n",
        "sys/fs/cgroup/memory.high": f"{2 * GIB}\n",
    }

    assert measure_device(write_machine(tmp_path, files)).free_bytes == 2 * GIB


def test_cgroup_v1_seen_from_inside_a_container(tmp_path: Path) -> None:
    """Without a cgroup namespace the group's path is the host's, and the mount shows
    just that group.
    """
    files = {
        "proc/self/cgroup": "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n0::/docker/abc\n",
        "proc/self/mountinfo": mount("cgroup", "/docker/abc", "/sys/fs/cgroup/memory", "rw,memory")
        + mount("cgroup", "/docker/abc", "/sys/fs/cgroup/cpu,cpuacct", "rw,cpu,cpuacct"),
        "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{GIB}\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{GIB // 2}\n",
        "sys/fs/cgroup/memory/memory.stat": "cache 1\ntotal_active_file "
        f"{MIB}\ntotal_inactive_file {MIB}\n",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "50000\n",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
    }

    device = measure_device(write_machine(tmp_path, files))

    assert device.free_bytes == GIB // 2 + 2 * MIB
    assert (device.cpu_quota, device.threads) == (0.5, 1)


def test_cgroup_v1_without_limits(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "4:memory:/user/a b\n2:cpu:/\n",
        "proc/self/mountinfo": mount("cgroup", "/", "/sys/fs/my\\040cgroup/memory", "rw,memory")
        + mount("cgroup", "/", "/sys/fs/cgroup/cpu", "rw,cpu"),
        "sys/fs/my cgroup/memory/user/a b/memory.limit_in_bytes": "9223372036854771712\n",
        "sys/fs/my cgroup/memory/user/memory.limit_in_bytes": f"{GIB}\n",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
    }

    device = measure_device(write_machine(tmp_path, files))

    assert (device.free_bytes, device.cpu_quota) == (GIB, None)


def test_a_machine_that_shows_no_memory(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="Check that /proc is mounted"):
        measure_device(write_machine(tmp_path, {"proc/meminfo": "nothing\n"}))


def test_the_budget_is_the_least_of_machine_limit_and_ram(tmp_path: Path) -> None:
    device = measure_device(write_machine(tmp_path, {"sys/fs/cgroup/memory.max": f"{4 * GIB}\n"}))

    limited, allowed = memory_budget(device, None), memory_budget(device, GIB)
    assert (limited.total_bytes, limited.usable_bytes) == (4 * GIB, 4 * GIB - int(0.2 * GIB))
    assert "left under the 4.00 GiB limit" in limited.explanation
    assert (allowed.total_bytes, allowed.explanation.split(",")[0]) == (
        GIB,
        "1.00 GiB allowed by --ram",
    )
    assert memory_budget(device, 64 * MIB).usable_bytes == 32 * MIB
    assert memory_budget(device, 8 * MIB).usable_bytes == 0


def test_what_we_hold_already_is_ours_to_plan_with(tmp_path: Path) -> None:
    free = measure_device(write_machine(tmp_path, {"sys/fs/cgroup/memory.max": f"{GIB}\n"}))
    held = replace(free, own_anonymous_bytes=20 * MIB)

    assert memory_budget(held, None).total_bytes == memory_budget(free, None).total_bytes + 20 * MIB
    assert memory_budget(held, GIB // 2).total_bytes == GIB // 2  # of --ram everything is taken

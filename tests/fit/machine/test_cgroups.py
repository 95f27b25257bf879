"""Corners of control groups:
where they are seen, which of them count, and what a limit means.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.fit.machine.cgroup_tree import own_groups
from appliance.fit.machine.cgroups import cpu_quota, memory_limits
from appliance.fit.machine.device import measure_device
from tests.fit.machines import GIB, mount, write_machine


def limits_of(root: Path) -> list[tuple[str, int]]:
    return [
        (Path(limit.group).relative_to(root).as_posix(), limit.limit_bytes)
        for limit in memory_limits(root)
    ]


def test_a_limit_above_the_machines_memory_limits_nothing(tmp_path: Path) -> None:
    device = measure_device(write_machine(tmp_path, {"sys/fs/cgroup/memory.max": f"{16 * GIB}\n"}))

    assert (device.memory_limit, device.free_bytes) == (None, 12 * GIB)


def test_the_lower_of_high_and_max_counts_and_its_name_is_reported(tmp_path: Path) -> None:
    write_machine(
        tmp_path,
        {"sys/fs/cgroup/memory.max": f"{GIB}\n", "sys/fs/cgroup/memory.high": f"{GIB // 2}\n"},
    )

    assert [(limit.kind, limit.limit_bytes) for limit in memory_limits(tmp_path)] == [
        ("memory.high", GIB // 2)
    ]


def test_a_hybrid_machine_has_its_limits_in_version_1(tmp_path: Path) -> None:
    """systemd's hybrid layout: version 2 is there for processes, and holds none of the
    controllers.
    """
    files = {
        "proc/self/cgroup": "4:memory:/user\n0::/user.slice\n",
        "proc/self/mountinfo": mount("cgroup2", "/", "/sys/fs/cgroup/unified", "rw")
        + mount("cgroup", "/", "/sys/fs/cgroup/memory", "rw,memory"),
        "sys/fs/cgroup/memory/user/memory.limit_in_bytes": f"{GIB}\n",
        "sys/fs/cgroup/unified/user.slice/memory.pressure": "",
    }

    assert limits_of(write_machine(tmp_path, files)) == [("sys/fs/cgroup/memory/user", GIB)]


def test_old_kernels_leave_parents_out_that_do_not_count_their_children(tmp_path: Path) -> None:
    base = "sys/fs/cgroup/memory"
    files = {
        "proc/self/cgroup": "4:memory:/a/b/c\n",
        "proc/self/mountinfo": mount("cgroup", "/", f"/{base}", "rw,memory"),
        f"{base}/a/b/c/memory.limit_in_bytes": f"{4 * GIB}\n",
        # our own children would not count: that is not our matter
        f"{base}/a/b/c/memory.use_hierarchy": "0\n",
        f"{base}/a/b/memory.limit_in_bytes": f"{3 * GIB}\n",
        f"{base}/a/b/memory.use_hierarchy": "1\n",
        f"{base}/a/memory.limit_in_bytes": f"{GIB}\n",
        f"{base}/a/memory.use_hierarchy": "0\n",
    }

    assert limits_of(write_machine(tmp_path, files)) == [
        (f"{base}/a/b/c", 4 * GIB),
        (f"{base}/a/b", 3 * GIB),
    ]


@pytest.mark.parametrize(
    ("group", "mount_root", "directories"),
    [
        ("/", "/", ["."]),
        ("/a/b", "/", ["a/b", "a", "."]),
        ("/a/b", "/a", ["b", "."]),
        ("/a", "/a", ["."]),
        ("/../b", "/..", ["b", "."]),  # both told relative to a namespace's root
        # we left the root of our namespace: what is mounted is all we can see
        ("/../b", "/", ["."]),
        ("/x", "/a", ["."]),
    ],
)
def test_where_groups_are_seen(
    tmp_path: Path, group: str, mount_root: str, directories: list[str]
) -> None:
    files = {
        "proc/self/cgroup": f"0::{group}\n",
        "proc/self/mountinfo": mount("cgroup2", mount_root, "/sys/fs/cgroup", "rw"),
    }
    write_machine(tmp_path, files)

    assert [g.directory for g in own_groups(tmp_path, "memory")] == [
        tmp_path / "sys/fs/cgroup" / name for name in directories
    ]


def test_of_two_mounts_the_one_that_shows_our_group_counts_and_a_hidden_one_does_not(
    tmp_path: Path,
) -> None:
    files = {
        "proc/self/cgroup": "0::/ours\n",
        "proc/self/mountinfo": mount("cgroup2", "/theirs", "/mnt/theirs", "rw")
        + mount("cgroup2", "/ours", "/mnt/hidden", "rw")
        + mount("tmpfs", "/", "/mnt/hidden", "rw")
        + mount("cgroup2", "/", "/mnt/all", "rw"),
    }
    write_machine(tmp_path, files)

    assert [g.directory for g in own_groups(tmp_path, "memory")] == [
        tmp_path / "mnt/all/ours",
        tmp_path / "mnt/all",
    ]


@pytest.mark.parametrize(
    "text", ["max 100000", "150000 0", "-1 100000", "0 100000", "150000", "a b", "1 2 3", ""]
)
def test_what_is_no_quota(tmp_path: Path, text: str) -> None:
    assert cpu_quota(write_machine(tmp_path, {"sys/fs/cgroup/cpu.max": text})) is None


def test_a_cpuset_narrower_than_the_affinity_counts(tmp_path: Path) -> None:
    device = measure_device(
        write_machine(tmp_path, {"sys/fs/cgroup/cpuset.cpus.effective": "1-2\n"})
    )
    assert device.usable_cpus == 2

    # contradicts what the kernel lets us run on
    (tmp_path / "sys/fs/cgroup/cpuset.cpus.effective").write_text("8-9\n")
    assert measure_device(tmp_path).usable_cpus == 4

"""What is measured inside real control groups of this machine, made for the test;
skipped where none may be made.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.fit.machine.cgroup_tree import own_groups

MIB = 1 << 20
PYTHON = sys.executable
MEASURE = (
    "import dataclasses, json; from appliance.fit.machine.device import measure_device; device = "
    "measure_device();print(json.dumps({**dataclasses.asdict(device), 'cpu_flags': [], "
    "'free_bytes': device.free_bytes, 'threads': device.threads}))"
)
# Maps a file, reads all of its pages, says so, and stays until its input ends.
HOLD = """
import mmap, sys
with open(sys.argv[1], "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as pages:
    sum(pages[at] for at in range(0, len(pages), mmap.PAGESIZE))
    print("ready", flush=True)
    sys.stdin.read()
"""


class Groups:
    """Makes child groups of our own, and takes them away again."""

    def __init__(self) -> None:
        self._made: list[Path] = []

    def make(self, controller: str, parent: Path | None = None) -> Path:
        groups = own_groups(Path("/"), controller)
        if not groups:
            pytest.skip(f"there is no control group of {controller} here")
        group = (parent or groups[0].directory) / f"appliance-test-{os.getpid()}-{len(self._made)}"
        try:
            group.mkdir()
        except OSError as error:
            pytest.skip(f"no control group can be made here: {error}")
        self._made.append(group)
        return group

    def remove(self) -> None:
        for group in reversed(self._made):
            group.rmdir()


@pytest.fixture
def groups() -> Iterator[Groups]:
    made = Groups()
    yield made
    made.remove()


def limit(group: Path, names: tuple[str, ...], value: str) -> None:
    """Writes the file of whichever version this is;
    skips where the controller is not for us.
    """
    there = [name for name in names if (group / name).exists()]
    if not there:
        pytest.skip(f"{group} has none of {', '.join(names)}")
    try:
        (group / there[0]).write_text(value)
    except OSError as error:
        pytest.skip(f"{group / there[0]} cannot be written: {error}")


def limit_memory(group: Path, num_bytes: int) -> None:
    limit(group, ("memory.max", "memory.limit_in_bytes"), str(num_bytes))


def inside(group: Path, *command: str) -> list[str]:
    """The command line that runs `command` in `group`."""
    return ["sh", "-c", f'echo $$ > "{group}/cgroup.procs" && exec "$@"', "sh", *command]


def measured_in(group: Path) -> dict[str, Any]:
    done = subprocess.run(
        inside(group, PYTHON, "-c", MEASURE), capture_output=True, text=True, check=True
    )
    return dict(json.loads(done.stdout))


def test_a_memory_limit(groups: Groups) -> None:
    group = groups.make("memory")
    limit_memory(group, 512 * MIB)

    device = measured_in(group)

    assert (device["memory_limit"]["limit_bytes"], device["memory_limit"]["group"]) == (
        512 * MIB,
        str(group),
    )
    # The measuring process itself is in there.
    assert (
        512 * MIB - 200 * MIB
        < device["free_bytes"]
        <= 512 * MIB - device["own_anonymous_bytes"] + 4 * MIB
    )


def test_the_limit_of_the_parent(groups: Groups) -> None:
    parent = groups.make("memory")
    limit_memory(parent, 256 * MIB)
    group = groups.make("memory", parent)
    limit_memory(group, 1024 * MIB)

    device = measured_in(group)

    assert device["memory_limit"]["limit_bytes"] == 256 * MIB
    assert device["free_bytes"] < 256 * MIB


def cold_file(path: Path, num_bytes: int) -> Path:
    """A file on disk of which no page is in memory, charged to nobody."""
    with path.open("wb") as file:
        file.write(os.urandom(num_bytes))
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return path


def test_a_model_that_another_process_maps_is_in_use_and_one_that_was_read_is_not(
    groups: Groups, tmp_path: Path
) -> None:
    group = groups.make("memory")
    limit_memory(group, 512 * MIB)
    model = cold_file(tmp_path / "model", 96 * MIB)
    empty_bytes = measured_in(group)["free_bytes"]

    command = inside(group, PYTHON, "-c", HOLD, str(model))
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"
        held = measured_in(group)
    read_bytes = measured_in(group)["free_bytes"]

    assert held["memory_limit"]["mapped_bytes"] > 80 * MIB
    assert empty_bytes - held["free_bytes"] > 80 * MIB
    # its pages are still in memory, for the kernel to drop
    assert abs(empty_bytes - read_bytes) < 16 * MIB


def test_a_cpu_quota(groups: Groups) -> None:
    group = groups.make("cpu")
    if (group / "cpu.max").exists():
        limit(group, ("cpu.max",), "150000 100000")
    else:
        limit(group, ("cpu.cfs_quota_us",), "150000")

    device = measured_in(group)

    assert (device["cpu_quota"], device["threads"]) == (1.5, 1)


def test_a_cpuset(groups: Groups) -> None:
    group = groups.make("cpuset")
    limit(group, ("cpuset.mems",), "0")
    limit(group, ("cpuset.cpus",), "0")

    device = measured_in(group)

    assert (device["usable_cpus"], device["usable_cores"], device["threads"]) == (1, 1, 1)


def test_a_namespace_in_which_our_group_is_the_root(groups: Groups, tmp_path: Path) -> None:
    """As a container sees it, beside mounts that were made outside."""
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare")
    group = groups.make("memory")
    limit_memory(group, 512 * MIB)
    version_2 = (group / "memory.max").exists()
    mounting = (
        f"mount -t cgroup2 none {tmp_path}"
        if version_2
        else f"mount -t cgroup -o memory none {tmp_path}"
    )
    script = f'{mounting} && exec "$@"'
    command = inside(
        group, "unshare", "--cgroup", "--mount", "sh", "-c", script, "sh", PYTHON, "-c", MEASURE
    )

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    if done.returncode and ("unshare" in done.stderr or "mount" in done.stderr):
        pytest.skip(f"no namespace can be made here: {done.stderr.strip()}")
    device = json.loads(done.stdout)
    assert (device["memory_limit"]["limit_bytes"], device["memory_limit"]["group"]) == (
        512 * MIB,
        str(tmp_path),
    )

"""`appliance fit --device`: what it prints of this machine and of others, and when it
asks a child for GPUs.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.cli import main
from appliance.cli.device import device_record
from appliance.cli.tables.device import as_text
from appliance.fit.machine.accelerators import Accelerator
from appliance.fit.machine.bandwidth import Bandwidth, BandwidthKey, BandwidthMemory
from appliance.fit.machine.device import measure_device
from appliance.fit.machine.disk import Disk
from appliance.fit.plan.budget import memory_budget
from appliance.launch.machine import with_bandwidth
from tests.fit.machine.known_machines import MACHINES
from tests.fit.machines import GIB, write_machine

MEASURED = Bandwidth(
    copy_bytes_per_s=9.5e9,
    threads=1,
    copied_bytes=64 << 20,
    spread=1.8,
    cached=True,
    date="2026-11-23",
)


def environment(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path)}


def test_this_machine_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--device", "--json", "absent-model"], environment(tmp_path)) == 0

    record = json.loads(capsys.readouterr().out)
    assert record["ram_total_bytes"] == measure_device().ram_total_bytes
    assert record["threads"]["count"] == measure_device().threads
    assert record["budget"]["total_bytes"] == record["free_bytes"] + record["own_anonymous_bytes"]
    assert record["disk"]["free_bytes"] > 0
    state = (tmp_path / ".local/state/appliance/memory_bandwidth.json").read_text()
    assert json.loads(state)["machines"].popitem()[1] == record["bandwidth"]
    assert "llama_cpp" not in sys.modules


@pytest.mark.parametrize(("spread", "is_kept"), [(1.1, True), (3.5, False)])
def test_what_was_measured_in_quiet_is_not_measured_again(
    spread: float, is_kept: bool, tmp_path: Path
) -> None:
    device = measure_device()
    machine = BandwidthKey(device.cpu_name or "", device.ram_total_bytes, device.threads)
    slow = replace(MEASURED, copy_bytes_per_s=1.0, spread=spread)
    BandwidthMemory(tmp_path).remember(machine, slow)

    assert (with_bandwidth(device, tmp_path).bandwidth == slow) == is_kept


def test_a_container_as_a_table(tmp_path: Path) -> None:
    device = measure_device(write_machine(tmp_path, MACHINES["container_v2"]()))
    assert device.memory_limit is not None
    assert device.pressure is not None
    device = replace(
        device,
        memory_limit=replace(device.memory_limit, group="/sys/fs/cgroup"),
        pressure=replace(device.pressure, source="memory.pressure"),
        bandwidth=MEASURED,
        disk=Disk("/models", 3 * GIB, 9 * GIB),
    )

    assert (
        as_text(device, memory_budget(device, None), "llama.cpp is built without GPU support here")
        == TABLE
    )


TABLE = """\
Memory
  RAM        16.00 GiB  12.00 GiB available: free, or page cache that the kernel would drop
  limit       2.00 GiB  memory.max of /sys/fs/cgroup: 1.56 GiB left; 250.0 MiB of its cache is in use
  swap        8.00 GiB  924.0 MiB free; plans never count on it
  pressure       4.2 %  of the last 10 s some task waited for memory; for 1.1 % all did (memory.pressure)
  usable      1.56 GiB  left under the 2.00 GiB limit of /sys/fs/cgroup
  budget      1.48 GiB  1.56 GiB left under the 2.00 GiB limit of /sys/fs/cgroup, less 79.9 MiB headroom
Processor
  model                 unknown
  CPUs               3  that this process may run on
  cores              2  physical, all of one kind as far as the system reports
  quota       1.5 CPUs  set by the tightest control group
  threads            1  the CPU quota allows 1.5 CPUs, fewer than the 2 cores
  bandwidth   9.5 GB/s  read and written in the best pass of 1 thread copying 67 MB; measured 2026-11-23; the
                        caches are large enough to inflate it; other work disturbed the measurement (the
                        median pass took 1.8 times as long)
GPU
  GPU             none  llama.cpp is built without GPU support here
Disk and heat
  disk        3.00 GiB  free for models in /models
  heat         unknown  this system does not report it"""  # noqa: E501 - a table as it is printed


def test_gpus_in_the_table_say_whose_memory_they_have(tmp_path: Path) -> None:
    card = Accelerator(
        name="CUDA0",
        description="RTX 3060",
        kind="GPU",
        memory_total_bytes=12 * GIB,
        memory_free_bytes=11 * GIB,
    )
    integrated = Accelerator(
        name="Vulkan1",
        description="Iris",
        kind="IGPU",
        memory_total_bytes=16 * GIB,
        memory_free_bytes=12 * GIB,
    )
    device = measure_device(write_machine(tmp_path), accelerators=[card, integrated])

    text = as_text(device, memory_budget(device, None), "as llama.cpp lists them", threads=7)

    assert "CUDA0      11.00 GiB  RTX 3060: 11.00 GiB of 12.00 GiB free in its own memory" in text
    assert (
        "Vulkan1          RAM  Iris: 12.00 GiB of 16.00 GiB free, shared with the machine and "
        "counted once" in text
    )
    assert (
        "threads            7  set by --threads; without it, 2: one for each of 2 physical cores"
        in text
    )


@pytest.mark.parametrize("name", MACHINES)
def test_every_known_machine_can_be_shown(name: str, tmp_path: Path) -> None:
    device = measure_device(
        write_machine(tmp_path, MACHINES[name]()), models_dir=tmp_path / "not" / "there"
    )

    text = as_text(device, memory_budget(device, None), "none that llama.cpp can use")

    assert max(len(line) for line in text.splitlines()) <= 110 or str(tmp_path) in text
    assert json.loads(json.dumps(device_record(device)))["free_bytes"] == device.free_bytes

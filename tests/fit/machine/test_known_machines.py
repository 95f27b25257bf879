"""What is measured on the kinds of machines people have, and that no damaged kernel
file changes more than its part.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.errors import SetupError
from appliance.fit.machine.accelerators import Accelerator
from appliance.fit.machine.cpus import CoreKinds
from appliance.fit.machine.device import Device, measure_device
from appliance.fit.machine.macos import parse_sysctl
from appliance.fit.machine.thermal import ThermalState
from appliance.fit.plan.budget import memory_bounds
from tests.fit.machine import known_machines
from tests.fit.machine.known_machines import CPU, MACHINES, MIB, siblings, status
from tests.fit.machines import GIB, write_machine

CUDA = Accelerator(
    name="CUDA0",
    description="NVIDIA GeForce RTX 3060",
    kind="GPU",
    memory_total_bytes=12 * GIB,
    memory_free_bytes=11 * GIB,
)


def measured(root: Path, files: Mapping[str, str], *accelerators: Accelerator) -> Device:
    return measure_device(write_machine(root, files), accelerators=accelerators)


def test_a_jetson_counts_its_memory_once(tmp_path: Path) -> None:
    gpu = Accelerator(
        name="CUDA0",
        description="Orin",
        kind="IGPU",
        memory_total_bytes=7620 * MIB,
        memory_free_bytes=5 * GIB,
    )

    device = measured(tmp_path, known_machines.jetson(), gpu)

    assert device.unified_memory == "NVIDIA Jetson Orin Nano Developer Kit"
    assert (device.free_bytes, device.vram_free_bytes) == (5 * GIB, 0)
    assert (device.usable_cores, device.core_kinds, device.threads) == (6, None, 6)
    assert device.thermal is not None
    assert device.thermal.state is ThermalState.HOT
    assert (device.thermal.hottest_celsius, device.thermal.hottest_zone) == (97.5, "cpu-thermal")


def test_a_jetson_is_known_in_a_container_that_hides_the_device_tree(tmp_path: Path) -> None:
    files = {
        name: text for name, text in known_machines.jetson().items() if "device-tree" not in name
    }

    assert (
        measured(tmp_path, files | {"sys/devices/soc0/family": "Tegra\n"}).unified_memory
        == "NVIDIA Tegra"
    )


def test_a_card_of_its_own_adds_memory_and_an_integrated_gpu_does_not(tmp_path: Path) -> None:
    integrated = Accelerator(
        name="Vulkan1",
        description="Intel Graphics",
        kind="IGPU",
        memory_total_bytes=16 * GIB,
        memory_free_bytes=12 * GIB,
    )

    device = measured(tmp_path, {}, CUDA, integrated)

    assert (device.vram_free_bytes, device.unified_memory, device.accelerators) == (
        11 * GIB,
        None,
        (CUDA, integrated),
    )


def test_a_raspberry_pi_tells_of_its_weak_supply_and_its_swap_is_no_memory(tmp_path: Path) -> None:
    device = measured(tmp_path, known_machines.raspberry_pi())

    assert device.cpu_name == "Raspberry Pi 5 Model B Rev 1.0"
    assert (device.threads, device.unified_memory) == (4, None)
    assert (device.free_bytes, device.swap_total_bytes, device.swap_free_bytes) == (
        3 * GIB,
        2 * GIB,
        2 * GIB - MIB,
    )
    assert device.thermal is not None
    assert device.thermal.state is ThermalState.THROTTLING
    assert device.thermal.reason == "the firmware reports: under-voltage, throttled"


def test_a_hybrid_laptop_computes_on_its_performance_cores(tmp_path: Path) -> None:
    files = known_machines.hybrid_laptop()

    device = measured(tmp_path, files)

    assert (device.usable_cpus, device.usable_cores) == (22, 16)
    assert device.core_kinds == CoreKinds(6, 10, "/sys/devices/cpu_core")
    assert device.thread_choice.count == 6
    assert device.thread_choice.reason == (
        "one for each of 6 performance cores; the 10 efficiency cores would slow them down"
    )
    # 2 GiB of mapped files are somebody's, 1 GiB more is shared memory
    assert device.free_bytes == 18 * GIB
    assert device.thermal is not None
    assert (device.thermal.state, device.thermal.throttle_count, device.thermal.clock_share) == (
        None,
        44,
        0.5,
    )

    # In a virtual machine or an old kernel clocks alone tell; bound to efficiency
    # cores, those are what there is.
    (tmp_path / "sys/devices/cpu_core/cpus").unlink()
    assert measure_device(tmp_path).core_kinds == CoreKinds(6, 10, "cpuinfo_max_freq")
    (tmp_path / "proc/self/status").write_text(status("12-19"))
    assert (measure_device(tmp_path).core_kinds, measure_device(tmp_path).threads) == (None, 8)
    (tmp_path / "proc/self/status").write_text(status("1,3,12-19"))
    assert measure_device(tmp_path).threads == 2


@pytest.mark.parametrize(
    ("capacities", "kinds"),
    [
        # three kinds: two are quick
        ((446, 446, 446, 446, 871, 871, 871, 1024), CoreKinds(4, 4, "cpu_capacity")),
        ((530, 530, 530, 530, 1024, 1024, 1024, 1024), CoreKinds(4, 4, "cpu_capacity")),  # RK3588
        ((1024,) * 8, None),
        ((1024, 0, 1024, 1024, 1024, 1024, 1024, 1024), None),  # nonsense is unknown
    ],
)
def test_big_and_little_arm_cores(
    tmp_path: Path, capacities: tuple[int, ...], kinds: CoreKinds | None
) -> None:
    files = {
        f"{CPU}/cpu{cpu}/cpu_capacity": f"{capacity}\n" for cpu, capacity in enumerate(capacities)
    }
    files |= siblings(range(8), 1) | {"proc/self/status": status("0-7")}

    device = measured(tmp_path, files)

    assert device.core_kinds == kinds
    assert device.threads == (4 if kinds else 8)


def test_a_process_bound_to_one_numa_node_has_that_node(tmp_path: Path) -> None:
    device = measured(tmp_path, known_machines.numa_server())

    assert (device.usable_cpus, device.usable_cores, device.cache_bytes) == (8, 4, 32 * MIB)
    assert [(len(node.cpus), len(node.our_cpus), node.ours) for node in device.numa_nodes] == [
        (8, 0, False),
        (8, 8, True),
    ]
    assert device.free_bytes == 40 * GIB - MIB
    assert (
        min(memory_bounds(device), key=lambda bound: bound.free_bytes).words
        == "left on the NUMA nodes that this process may use (1)"
    )

    (tmp_path / "proc/self/status").write_text(status("0-15", mems="0-1"))
    whole = measure_device(tmp_path)
    assert (whole.free_bytes, whole.numa_available_bytes, whole.cache_bytes) == (
        100 * GIB,
        None,
        64 * MIB,
    )


def test_a_container_of_version_2(tmp_path: Path) -> None:
    device = measured(tmp_path, known_machines.container_v2())

    assert device.memory_limit is not None
    assert (device.memory_limit.kind, device.memory_limit.mapped_bytes) == ("memory.max", 250 * MIB)
    assert device.free_bytes == 2 * GIB - (800 - 600 + 250) * MIB
    assert device.swap_free_bytes == GIB - 100 * MIB
    assert (device.usable_cpus, device.cpu_quota, device.threads) == (3, 1.5, 1)
    assert device.thread_choice.reason == "the CPU quota allows 1.5 CPUs, fewer than the 2 cores"
    assert device.pressure is not None
    assert (device.pressure.some_avg10, device.pressure.full_avg10) == (4.2, 1.1)


def test_what_we_map_ourselves_is_in_nobody_elses_use(tmp_path: Path) -> None:
    own = status("0-3") + f"RssAnon:\t{30 * 1024} kB\nRssFile:\t{50 * 1024} kB\n"

    device = measured(tmp_path, known_machines.container_v2() | {"proc/self/status": own})

    assert device.own_anonymous_bytes == 30 * MIB
    assert device.memory_limit is not None
    assert device.memory_limit.mapped_bytes == 200 * MIB


def test_a_container_of_version_1_tells_the_limit_of_ancestors_it_hides(tmp_path: Path) -> None:
    device = measured(tmp_path, known_machines.container_v1())

    assert device.memory_limit is not None
    assert device.memory_limit.limit_bytes == 3 * GIB
    assert device.free_bytes == 2 * GIB + (256 - 64) * MIB
    assert device.swap_free_bytes == 3 * GIB
    assert (device.cpu_quota, device.threads) == (2.5, 2)


def test_an_old_kernel(tmp_path: Path) -> None:
    device = measured(tmp_path, known_machines.old_kernel())

    assert (device.ram_total_bytes, device.free_bytes) == (8 * GIB, 3 * GIB)
    assert (device.usable_cpus, device.usable_cores) == (4, 2)
    assert (device.pressure, device.thermal, device.numa_nodes, device.unified_memory) == (
        None,
        None,
        (),
        None,
    )


def test_more_available_than_there_is_counts_as_all(tmp_path: Path) -> None:
    device = measured(tmp_path, {"proc/meminfo": known_machines.meminfo(4 * GIB, 6 * GIB)})

    assert device.free_bytes == 4 * GIB


def test_apple_silicon() -> None:
    text = (
        "machdep.cpu.brand_string: Apple M2 Pro\nhw.optional.arm64: 1\n"
        "hw.perflevel0.physicalcpu: 6\nhw.perflevel1.physicalcpu: 4\n"
    )
    mac = parse_sysctl(text)

    assert (mac.name, mac.unified_memory) == ("Apple M2 Pro", "Apple M2 Pro")
    assert mac.kinds == CoreKinds(6, 4, "hw.perflevel0.physicalcpu")
    intel = parse_sysctl("machdep.cpu.brand_string: Intel(R) Core(TM) i7\n")
    assert (intel.kinds, intel.unified_memory) == (None, None)


# What kernel files may hold when they are damaged, or other than we know them: near
# misses and anything at all.
DAMAGED = st.one_of(
    st.text(max_size=60),
    st.sampled_from(
        [
            "",
            "max",
            "-1",
            "0",
            "0 0",
            "max 0",
            "1 0",
            "99999999999999999999",
            "0-99999999",
            "3-1",
            "²",
            "\0",
        ]
    ),
    st.integers().map(str),
    st.lists(st.integers(-5, 1 << 62).map(str), max_size=4).map(" ".join),
)


@pytest.mark.parametrize("name", MACHINES)
def test_no_damaged_file_is_an_error_or_leads_beyond_the_machine(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = write_machine(tmp_path_factory.mktemp(name), MACHINES[name]())
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    total_bytes = measure_device(root).ram_total_bytes

    @settings(max_examples=150, deadline=None)
    @given(st.sampled_from(paths), DAMAGED)
    def check(path: Path, text: str) -> None:
        sound = path.read_bytes()
        path.write_text(text, encoding="utf-8", errors="replace")
        try:
            device = measure_device(root)
        except SetupError:
            if path.name != "meminfo":
                raise
            return
        finally:
            path.write_bytes(sound)
        assert 0 <= device.free_bytes <= device.ram_total_bytes
        assert path.name == "meminfo" or device.ram_total_bytes == total_bytes
        assert 1 <= device.threads <= device.usable_cores <= device.usable_cpus

    check()


@pytest.mark.parametrize("name", MACHINES)
def test_no_file_is_needed_but_meminfo(name: str, tmp_path: Path) -> None:
    root = write_machine(tmp_path, MACHINES[name]())
    for path in sorted(root.rglob("*")):
        if path.is_file() and path.name != "meminfo":
            sound = path.read_bytes()
            path.unlink()
            device = measure_device(root)
            path.write_bytes(sound)
            assert 1 <= device.threads <= device.usable_cores

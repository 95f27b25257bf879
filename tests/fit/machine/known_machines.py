"""The parts of /proc and /sys that real kinds of machines show, as their kernels write
them; for `write_machine`.
"""

from __future__ import annotations

from collections.abc import Iterable

from tests.fit.machines import GIB, mount

MIB = 1 << 20
CPU = "sys/devices/system/cpu"


def meminfo(total_bytes: int, available_bytes: int, **more_bytes: int) -> str:
    fields = {
        "MemTotal": total_bytes,
        "MemFree": 64 * MIB,
        "MemAvailable": available_bytes,
        **more_bytes,
    }
    return "".join(f"{name}: {size // 1024:>10} kB\n" for name, size in fields.items())


def status(cpus: str, mems: str = "0") -> str:
    return f"Name:\tpython\nCpus_allowed_list:\t{cpus}\nMems_allowed_list:\t{mems}\n"


def siblings(cpus: Iterable[int], per_core: int) -> dict[str, str]:
    """Neighbouring CPUs share a core, as Intel numbers them on laptops."""
    tree = {}
    for cpu in cpus:
        first = cpu - cpu % per_core
        text = f"{first}-{first + per_core - 1}\n" if per_core > 1 else f"{cpu}\n"
        tree[f"{CPU}/cpu{cpu}/topology/core_cpus_list"] = text
    return tree


def jetson() -> dict[str, str]:
    """Orin Nano 8 GB: six equal cores in two clusters whose core_ids repeat; CPU and
    GPU share one memory.
    """
    tree = {
        "proc/meminfo": meminfo(7620 * MIB, 5 * GIB),
        "proc/self/status": status("0-5"),
        f"{CPU}/online": "0-5\n",
        "proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd asimddp\nCPU part\t: 0xd42\n",
        "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
        "proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005\0"
        "nvidia,p3767-0005\0nvidia,tegra234\0",
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
        "sys/class/thermal/thermal_zone0/temp": "97500\n",
        "sys/class/thermal/thermal_zone0/trip_point_0_type": "active\n",
        "sys/class/thermal/thermal_zone0/trip_point_0_temp": "51000\n",
        "sys/class/thermal/thermal_zone0/trip_point_1_type": "passive\n",
        "sys/class/thermal/thermal_zone0/trip_point_1_temp": "99000\n",
        "sys/class/thermal/thermal_zone1/type": "gpu-thermal\n",
        "sys/class/thermal/thermal_zone1/temp": "48000\n",
        "sys/class/thermal/cooling_device0/type": "pwm-fan\n",
        "sys/class/thermal/cooling_device0/cur_state": "3\n",
    }
    for cpu in range(6):
        cluster, core = divmod(cpu, 4)
        topology = f"{CPU}/cpu{cpu}/topology"
        tree |= {
            f"{topology}/physical_package_id": "0\n",
            f"{topology}/cluster_id": f"{cluster}\n",
            f"{topology}/core_id": f"{core}\n",
            f"{CPU}/cpu{cpu}/cpu_capacity": "1024\n",
        }
    return tree


def raspberry_pi() -> dict[str, str]:
    """A Pi 5 of 4 GB with zram swap;
    its supply is too weak now, and was throttled before.
    """
    return {
        "proc/meminfo": meminfo(4045 * MIB, 3 * GIB, SwapTotal=2 * GIB, SwapFree=2 * GIB - MIB),
        "proc/self/status": status("0-3"),
        f"{CPU}/online": "0-3\n",
        "proc/cpuinfo": "processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd asimddp\n",
        "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
        "proc/device-tree/compatible": "raspberrypi,5-model-b\0brcm,bcm2712\0",
        "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
        "sys/class/thermal/thermal_zone0/temp": "61450\n",
        "sys/class/thermal/thermal_zone0/trip_point_0_type": "critical\n",
        "sys/class/thermal/thermal_zone0/trip_point_0_temp": "110000\n",
        **siblings(range(4), 1),
    }


def hybrid_laptop() -> dict[str, str]:
    """Core Ultra 7 155H: six performance cores of two threads, eight efficiency cores,
    two more of low power.
    """
    tree = {
        "proc/meminfo": meminfo(
            32 * GIB, 20 * GIB, Mapped=3 * GIB, Shmem=GIB, **{"Inactive(file)": 8 * GIB}
        ),
        "proc/self/status": status("0-21"),
        f"{CPU}/online": "0-21\n",
        "proc/cpuinfo": "processor\t: 0\nmodel name\t: Intel(R) Core(TM) Ultra 7 "
        "155H\nflags\t\t: fpu avx2 avx_vnni\n",
        "sys/devices/cpu_core/cpus": "0-11\n",
        "sys/devices/cpu_atom/cpus": "12-21\n",
        "sys/class/thermal/thermal_zone0/type": "x86_pkg_temp\n",
        "sys/class/thermal/thermal_zone0/temp": "71000\n",
        "sys/class/thermal/thermal_zone0/trip_point_0_type": "passive\n",
        "sys/class/thermal/thermal_zone0/trip_point_0_temp": "0\n",
        **siblings(range(12), 2),
        **siblings(range(12, 22), 1),
    }
    for cpu in range(22):
        most = 4_800_000 if cpu < 12 else 3_800_000 if cpu < 20 else 2_500_000
        tree |= {
            f"{CPU}/cpu{cpu}/cpufreq/cpuinfo_max_freq": f"{most}\n",
            f"{CPU}/cpu{cpu}/cpufreq/scaling_max_freq": f"{most // 2}\n",
            f"{CPU}/cpu{cpu}/thermal_throttle/core_throttle_count": "2\n",
        }
    return tree


def numa_server() -> dict[str, str]:
    """Two sockets of four cores and eight threads with 64 GiB each; this process is
    bound to the second.
    """
    node = (
        "Node {0} MemTotal: {1} kB\nNode {0} MemFree: {2} kB\nNode {0} Active(file): {3} "
        "kB\nNode {0} Mapped: 1024 kB\n"
    )
    tree = {
        "proc/meminfo": meminfo(128 * GIB, 100 * GIB),
        "proc/self/status": status("4-7,12-15", mems="1"),
        f"{CPU}/online": "0-15\n",
        "sys/devices/system/node/online": "0-1\n",
        "sys/devices/system/node/node0/cpulist": "0-3,8-11\n",
        "sys/devices/system/node/node0/meminfo": node.format(0, 64 << 20, 60 << 20, 0),
        "sys/devices/system/node/node1/cpulist": "4-7,12-15\n",
        "sys/devices/system/node/node1/meminfo": node.format(1, 64 << 20, 30 << 20, 10 << 20),
    }
    for cpu in range(16):
        core = cpu % 8
        tree |= {
            f"{CPU}/cpu{cpu}/topology/thread_siblings_list": f"{core},{core + 8}\n",
            f"{CPU}/cpu{cpu}/cache/index3/level": "3\n",
            f"{CPU}/cpu{cpu}/cache/index3/size": "32768K\n",
            f"{CPU}/cpu{cpu}/cache/index3/type": "Unified\n",
            f"{CPU}/cpu{cpu}/cache/index3/shared_cpu_list": "0-3,8-11\n"
            if core < 4
            else "4-7,12-15\n",
        }
    return tree


def container_v2() -> dict[str, str]:
    """Docker with --memory 2g --memory-swap 3g --cpus 1.5 on a host of version 2; in
    its namespace it is the root.
    """
    group = "sys/fs/cgroup"
    return {
        "proc/meminfo": meminfo(16 * GIB, 12 * GIB, SwapTotal=8 * GIB, SwapFree=8 * GIB),
        "proc/self/cgroup": "0::/\n",
        "proc/self/mountinfo": mount("cgroup2", "/", "/sys/fs/cgroup", "rw"),
        f"{group}/memory.max": f"{2 * GIB}\n",
        f"{group}/memory.high": "max\n",
        f"{group}/memory.current": f"{800 * MIB}\n",
        f"{group}/memory.stat": f"anon {200 * MIB}\nfile {600 * MIB}\nfile_mapped "
        f"{250 * MIB}\nshmem 0\nactive_file {300 * MIB}\ninactive_file "
        f"{300 * MIB}\n",
        f"{group}/memory.swap.max": f"{GIB}\n",
        f"{group}/memory.swap.current": f"{100 * MIB}\n",
        f"{group}/memory.pressure": "some avg10=4.20 avg60=0.00 total=1\nfull avg10=1.10 "
        "avg60=0.00 total=1\n",
        f"{group}/cpu.max": "150000 100000\n",
        f"{group}/cpuset.cpus.effective": "0-2\n",
    }


def container_v1() -> dict[str, str]:
    """The same on a host of version 1, without a namespace; what limits us most is an
    ancestor we cannot see.
    """
    own = "/docker/abc"
    memory, cpu = "sys/fs/cgroup/memory", "sys/fs/cgroup/cpu,cpuacct"
    return {
        "proc/meminfo": meminfo(16 * GIB, 12 * GIB, SwapTotal=8 * GIB, SwapFree=8 * GIB),
        "proc/self/cgroup": f"12:memory:{own}\n5:cpu,cpuacct:{own}\n"
        f"1:name=systemd:{own}\n0::/docker.service\n",
        "proc/self/mountinfo": mount("cgroup", own, "/sys/fs/cgroup/memory", "ro,memory")
        + mount("cgroup", own, "/sys/fs/cgroup/cpu,cpuacct", "ro,cpu,cpuacct"),
        f"{memory}/memory.limit_in_bytes": f"{4 * GIB}\n",
        f"{memory}/memory.usage_in_bytes": f"{GIB}\n",
        f"{memory}/memory.memsw.limit_in_bytes": f"{4 * GIB}\n",
        f"{memory}/memory.memsw.usage_in_bytes": f"{GIB}\n",
        f"{memory}/memory.use_hierarchy": "1\n",
        f"{memory}/memory.stat": "cache 1\nhierarchical_memory_limit "
        f"{3 * GIB}\ntotal_mapped_file {96 * MIB}\ntotal_shmem "
        f"{32 * MIB}\ntotal_active_file {200 * MIB}\ntotal_inactive_file "
        f"{56 * MIB}\n",
        f"{cpu}/cpu.cfs_quota_us": "250000\n",
        f"{cpu}/cpu.cfs_period_us": "100000\n",
    }


def old_kernel() -> dict[str, str]:
    """3.10: no MemAvailable, no version 2, no PSI, no lists of siblings; CPUs that are
    not there count as allowed.
    """
    return {
        "proc/meminfo": "MemTotal: 8388608 kB\nMemFree: 1048576 kB\nBuffers: 1 kB\nCached: "
        "2097152 kB\n",
        "proc/self/status": status("0-127"),
        "proc/self/cgroup": "3:memory:/\n2:cpu:/\n",
        "proc/self/mountinfo": mount("cgroup", "/", "/cgroup/memory", "rw,memory"),
        f"{CPU}/online": "0-3\n",
        "cgroup/memory/memory.limit_in_bytes": "9223372036854775807\n",
    }


MACHINES = {
    "jetson": jetson,
    "raspberry_pi": raspberry_pi,
    "hybrid_laptop": hybrid_laptop,
    "numa_server": numa_server,
    "container_v2": container_v2,
    "container_v1": container_v1,
    "old_kernel": old_kernel,
}

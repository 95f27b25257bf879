"""Which CPU paths of llama.cpp, and which kernels of our own, work on this machine: the
parent's side, which calls nothing native itself.

A crash costs a child. Knows no settings, no plan and no serving.
"""

from appliance.llama.checks.correctness import PROBE, find_cpu_paths, probe_paths
from appliance.llama.checks.kernel_library import KernelLibrary, find_kernels
from appliance.llama.checks.kernel_test import (
    KernelMemory,
    KernelResult,
    KernelTest,
    run_kernel_test,
)
from appliance.llama.checks.library import LibraryInfo, NativeDevice, inspect_library, may_have_gpus
from appliance.llama.checks.memory import PathMemory, machine_key
from appliance.llama.checks.paths import CpuPath, CpuPaths, Demotion, PathChoice, PathResult
from appliance.llama.checks.reserved import DryLoads, ReservedBytes

__all__ = [
    "PROBE",
    "CpuPath",
    "CpuPaths",
    "Demotion",
    "DryLoads",
    "KernelLibrary",
    "KernelMemory",
    "KernelResult",
    "KernelTest",
    "LibraryInfo",
    "NativeDevice",
    "PathChoice",
    "PathMemory",
    "PathResult",
    "ReservedBytes",
    "find_cpu_paths",
    "find_kernels",
    "inspect_library",
    "machine_key",
    "may_have_gpus",
    "probe_paths",
    "run_kernel_test",
]

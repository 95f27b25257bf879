"""Which CPU path of llama.cpp to use on this machine: the parent's side, which calls nothing native itself.

A crash costs a child. Knows no settings, no plan and no serving.
"""

from appliance.llama.selftest.correctness import PROBE, find_cpu_paths, probe_paths
from appliance.llama.selftest.library import LibraryInfo, NativeDevice, inspect_library, may_have_gpus
from appliance.llama.selftest.memory import PathMemory
from appliance.llama.selftest.paths import Choice, CpuPath, CpuPaths, Demotion, PathResult, PathTimes, relative_time
from appliance.llama.selftest.reserved import ContextSizes, DryLoads, ReservedBytes
from appliance.llama.selftest.speed import Rounds, time_paths

__all__ = [
    "PROBE",
    "Choice",
    "ContextSizes",
    "CpuPath",
    "CpuPaths",
    "Demotion",
    "DryLoads",
    "LibraryInfo",
    "NativeDevice",
    "PathMemory",
    "PathResult",
    "PathTimes",
    "ReservedBytes",
    "Rounds",
    "find_cpu_paths",
    "inspect_library",
    "may_have_gpus",
    "probe_paths",
    "relative_time",
    "time_paths",
]

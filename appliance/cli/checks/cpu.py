"""Judges what the self-test found of the CPU paths, the library and its devices.

Starts no process itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from appliance.cli.checks import Check, CheckStatus
from appliance.errors import NoUsableCpuPath
from appliance.fit.machine.device import Device
from appliance.fit.plan.budget import readable
from appliance.llama.checks import CpuPath, CpuPaths, LibraryInfo

_INSTALL = "Run ./install.sh: it builds llama.cpp for this machine."
_NO_AMX = (
    "Run ./install.sh --no-amx: it builds llama.cpp without AMX, so that extra buffer types work."
)
_FORGET = (
    "If the cause is gone (a new kernel, hypervisor or library), run `appliance doctor --forget`."
)


def advises_amx_free_build(paths: CpuPaths, library: LibraryInfo, device: Device) -> bool:
    """Whether extra buffer types probably fail because of AMX:
    CPU and library have it.
    """
    has_amx = "amx_tile" in device.cpu_flags and library.built_with_amx
    return has_amx and paths.plain.usable and not paths.extra_bufts.usable


def check_library(library: LibraryInfo | str) -> Check:
    name = "llama.cpp library"
    if isinstance(library, str):
        return Check(
            name=name,
            status=CheckStatus.FAIL,
            finding=f"cannot be loaded: it {library}",
            way_out=_INSTALL,
        )
    amx = "with AMX" if library.built_with_amx else "without AMX"
    gpu = "with" if library.supports_gpu_offload else "without"
    return Check(
        name=name,
        status=CheckStatus.OK,
        finding=f"built {amx}, {gpu} GPU support ({_features(library)})",
        data=asdict(library),
    )


def check_backend(library: LibraryInfo) -> Check | None:
    """Where there are several for different CPUs: whether the best one computes."""
    scores = library.cpu_scores
    if not scores:
        return None
    taken = next((device.library for device in library.devices if device.kind == "CPU"), "")
    best = max(scores, key=lambda name: scores[name])
    is_best = scores.get(taken) == scores[best]
    usable = sum(score > 0 for score in scores.values())
    of_all = f"the best of the {usable} of {len(scores)} that this CPU can run"
    return Check(
        name="CPU back end",
        status=CheckStatus.OK if is_best else CheckStatus.WARN,
        finding=f"{_cpu_name(taken)}, "
        + (of_all if is_best else f"though {_cpu_name(best)} is {of_all}"),
        way_out="" if is_best else _INSTALL,
        data={"taken": taken, "scores": scores},
    )


def check_path(
    path: CpuPath, paths: CpuPaths, tried_on: Sequence[str], *, amx_free_build_advised: bool
) -> Check:
    """`tried_on` names the quantizations that were computed."""
    name, result = f"CPU path: {path.label}", paths.of(path)
    data = {**asdict(result), "usable": result.usable}
    if result.usable:
        return Check(
            name=name,
            status=CheckStatus.OK,
            finding=f"computes correctly ({', '.join(tried_on)})",
            data=data,
        )
    if not paths.of(path.other).usable:
        return Check(
            name=name,
            status=CheckStatus.FAIL,
            finding=result.finding,
            way_out=_FORGET if result.works else _INSTALL,
            data=data,
        )
    if path is CpuPath.EXTRA_BUFTS and amx_free_build_advised:
        return Check(
            name=name, status=CheckStatus.WARN, finding=result.finding, way_out=_NO_AMX, data=data
        )
    way_out = (
        _FORGET
        if result.works
        else f"Nothing to do: {path.other.label} are used instead. ./install.sh may repair it."
    )
    return Check(
        name=name, status=CheckStatus.WARN, finding=result.finding, way_out=way_out, data=data
    )


def check_choice(paths: CpuPaths) -> Check:
    name = "CPU path by default"
    try:
        choice = paths.choose()
    except NoUsableCpuPath:
        return Check(
            name=name,
            status=CheckStatus.FAIL,
            finding="none",
            way_out=_INSTALL,
            data={"chosen": None},
        )
    return Check(
        name=name,
        status=CheckStatus.OK,
        finding=f"{choice.path.label}: {choice.reason}",
        data={"chosen": choice.path.value},
    )


def check_gpus(library: LibraryInfo) -> Check:
    gpus = [device for device in library.devices if device.is_gpu]
    data = {"gpus": [asdict(gpu) for gpu in gpus], "used": False}
    if not gpus:
        return Check(
            name="GPU",
            status=CheckStatus.OK,
            finding="none that this library can use; everything runs on the CPU",
            data=data,
        )
    seen = "; ".join(
        f"{gpu.name} {gpu.description} ({readable(gpu.memory_total_bytes)})" for gpu in gpus
    )
    finding = f"{seen}; `appliance fit` shows which layers of a model they compute"
    return Check(name="GPU", status=CheckStatus.OK, finding=finding, data=data)


def _cpu_name(file: str) -> str:
    """`zen4`, of libggml-cpu-zen4.so."""
    return file.removeprefix("libggml-cpu-").rpartition(".")[0] or "none"


def _features(library: LibraryInfo) -> str:
    """The instruction sets of `CPU : SSE3 = 1 | AVX = 1 | ...`."""
    words = library.system_info.replace("CPU :", "|").split("|")
    return " ".join(word.split("=")[0].strip() for word in words if word.strip().endswith("= 1"))

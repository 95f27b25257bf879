"""Memory, cores, disk, versions and models of this machine.

Knows no CPU path and no service.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from appliance.cli.checks import Check, CheckStatus
from appliance.fit.machine.device import Device
from appliance.fit.machine.disk import free_disk
from appliance.fit.machine.thermal import ThermalState
from appliance.fit.plan.budget import readable
from appliance.store.model_source import KnownModel

_LITTLE_MEMORY_BYTES = 512 << 20
_LITTLE_DISK_BYTES = 2 << 30
_SLOW_DISK_MB_PER_S = 20.0
_WRITTEN_BYTES = 64 << 20
_PACKAGES = ("appliance", "llama-cpp-python", "gguf")


def check_memory(device: Device) -> Check:
    finding = (
        f"{readable(device.ram_available_bytes)} available of {readable(device.ram_total_bytes)}"
    )
    limit = device.memory_limit
    if limit is not None:
        finding += (
            f"; {readable(limit.free_bytes)} left under the limit of {readable(limit.limit_bytes)}"
        )
        finding += f" of {limit.group}"
    else:
        finding += "; no control group limits it"
    data = {
        "total_bytes": device.ram_total_bytes,
        "available_bytes": device.ram_available_bytes,
        "mapped_by_others_bytes": device.mapped_by_others_bytes,
        "limit": None if limit is None else asdict(limit),
    }
    if device.free_bytes < _LITTLE_MEMORY_BYTES:
        way_out = "Stop other programs or raise the limit; `appliance fit` shows what still fits."
        return Check(
            name="memory", status=CheckStatus.WARN, finding=finding, way_out=way_out, data=data
        )
    return Check(name="memory", status=CheckStatus.OK, finding=finding, data=data)


def check_swap(device: Device) -> Check:
    total_bytes, free_bytes = device.swap_total_bytes, device.swap_free_bytes
    finding = f"{readable(free_bytes)} free of {readable(total_bytes)}" if total_bytes else "none"
    return Check(
        name="swap",
        status=CheckStatus.OK,
        finding=finding,
        data={"total_bytes": total_bytes, "free_bytes": free_bytes},
    )


def check_bandwidth(device: Device) -> Check:
    """Of memory; the doctor measures it anew,
    and the best that was ever measured stays.
    """
    name, bandwidth = "memory bandwidth", device.bandwidth
    if bandwidth is None:
        return Check(
            name=name,
            status=CheckStatus.WARN,
            finding="not measured: too little memory is free",
            way_out="Free some memory and run `appliance doctor` again.",
        )
    finding = (
        f"{bandwidth.copy_bytes_per_s / 1e9:.1f} GB/s, {bandwidth.threads} threads copying "
        f"({bandwidth.date})"
    )
    return Check(name=name, status=CheckStatus.OK, finding=finding, data=asdict(bandwidth))


def check_heat(device: Device) -> Check:
    name, thermal = "heat", device.thermal
    if thermal is None:
        return Check(
            name=name,
            status=CheckStatus.OK,
            finding="this system does not report it",
            data={"state": None},
        )
    state = "unknown" if thermal.state is None else thermal.state.value
    finding, data = f"{state}: {thermal.reason}", asdict(thermal)
    if thermal.state is ThermalState.THROTTLING:
        return Check(
            name=name,
            status=CheckStatus.WARN,
            finding=finding,
            way_out="Check the cooling and the power supply. `appliance serve --thermal on` stays "
            "just below a temperature limit.",
            data=data,
        )
    return Check(name=name, status=CheckStatus.OK, finding=finding, data=data)


def check_cores(device: Device, threads: int) -> Check:
    quota = "no CPU quota" if device.cpu_quota is None else f"a quota of {device.cpu_quota:g} CPUs"
    finding = (
        f"{device.usable_cores} ({device.usable_cpus} CPUs, {quota}); {threads} threads compute"
    )
    data = {
        "cores": device.usable_cores,
        "cpus": device.usable_cpus,
        "cpu_quota": device.cpu_quota,
        "threads": threads,
    }
    if device.cpu_quota is not None and device.cpu_quota < threads:
        way_out = (
            f"Raise the quota, or expect pauses: {threads} threads use it up before each period "
            "ends."
        )
        return Check(
            name="cores", status=CheckStatus.WARN, finding=finding, way_out=way_out, data=data
        )
    return Check(name="cores", status=CheckStatus.OK, finding=finding, data=data)


def check_disk(models_dir: Path) -> Check:
    """Free space of the models directory,
    and how fast 64 MiB are written there and synced.
    """
    name, other = "disk", "give another --models-dir"
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        disk = free_disk(models_dir)
        if disk is None:
            return Check(
                name=name,
                status=CheckStatus.FAIL,
                finding=f"the file system of {models_dir} cannot be examined",
                way_out="Give another --models-dir.",
            )
        free_bytes = disk.free_bytes
        if free_bytes < 2 * _WRITTEN_BYTES:
            finding = f"{readable(free_bytes)} free in {models_dir}"
            return Check(
                name=name,
                status=CheckStatus.FAIL,
                finding=finding,
                way_out=f"Free some space, or {other}.",
                data={"free_bytes": free_bytes},
            )
        mb_per_s = _write_mb_per_s(models_dir)
    except OSError as error:
        return Check(
            name=name,
            status=CheckStatus.FAIL,
            finding=f"{models_dir} cannot be written to: {error.strerror}",
            way_out="Give another --models-dir.",
        )
    finding = f"{readable(free_bytes)} free in {models_dir}, written at {mb_per_s:.0f} MB/s"
    data = {"free_bytes": free_bytes, "written_mb_per_s": mb_per_s, "models_dir": str(models_dir)}
    if free_bytes < _LITTLE_DISK_BYTES:
        return Check(
            name=name,
            status=CheckStatus.WARN,
            finding=finding,
            way_out=f"Models take gigabytes. Free some space, or {other}.",
            data=data,
        )
    if mb_per_s < _SLOW_DISK_MB_PER_S:
        return Check(
            name=name,
            status=CheckStatus.WARN,
            finding=finding,
            way_out="Loading will take minutes. Give a --models-dir on a faster disk.",
            data=data,
        )
    return Check(name=name, status=CheckStatus.OK, finding=finding, data=data)


def check_versions() -> Check:
    """Our own version, and whether the libraries are those that it was made for."""
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    pinned = dict(
        r.split("==")
        for r in importlib.metadata.requires("appliance") or ()
        if r.startswith(_PACKAGES)
    )
    finding = ", ".join(f"{name} {version}" for name, version in versions.items())
    finding += f", Python {platform.python_version()}"
    data = {**versions, "python": platform.python_version(), "system": platform.platform()}
    wrong = [f"{name} {version}" for name, version in pinned.items() if versions[name] != version]
    if wrong:
        way_out = f"Run ./install.sh: this version was made for {', '.join(wrong)}."
        return Check(
            name="versions", status=CheckStatus.WARN, finding=finding, way_out=way_out, data=data
        )
    return Check(name="versions", status=CheckStatus.OK, finding=finding, data=data)


def check_models(models: tuple[KnownModel, ...]) -> Check:
    there = [
        f"{model.name} ({', '.join(_type(path) for path in model.files)})"
        for model in models
        if model.files
    ]
    data = {model.name: [str(path) for path in model.files] for model in models}
    return Check(
        name="models",
        status=CheckStatus.OK,
        finding="; ".join(there) or "none converted yet",
        data=data,
    )


def _type(path: Path) -> str:
    """The quantization in a file's name, `NAME-TYPE.gguf`."""
    return path.stem.rpartition("-")[2]


def _write_mb_per_s(folder: Path) -> float:
    block = os.urandom(1 << 20)  # some file systems compress
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as file:
        started_s = time.perf_counter()
        for _ in range(_WRITTEN_BYTES // len(block)):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        return _WRITTEN_BYTES / 1e6 / (time.perf_counter() - started_s)

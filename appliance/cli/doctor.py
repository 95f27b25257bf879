"""`appliance doctor`: looks at everything serving depends on, and prints it.

Knows no check's rule, and mends nothing.

What it finds of the CPU paths and of the kernels is remembered for `serve`. Nothing
native runs in this process.
"""

from __future__ import annotations

import json
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from appliance.cli.checks import Check, CheckStatus, rpc_helpers
from appliance.cli.checks import confinement as confinement_checks
from appliance.cli.checks import cpu as cpu_checks
from appliance.cli.checks import kernels as kernel_checks
from appliance.cli.checks import machine as machine_checks
from appliance.cli.checks import service as service_checks
from appliance.cli.network.reaching import Address
from appliance.cli.progress_lines import ProgressLines
from appliance.errors import ApplianceError
from appliance.fit.machine.device import Device, measure_device
from appliance.fit.machine.rpc_helpers import ask_helpers
from appliance.launch.cpu_paths import Examination, embedded_files, examine_cpu_paths, path_memory
from appliance.launch.kernels import examine_kernels, kernel_memory
from appliance.launch.machine import with_bandwidth
from appliance.launch.names import embedded_spec
from appliance.llama.checks import CpuPath, CpuPaths, LibraryInfo, find_kernels, inspect_library
from appliance.settings import ServeSettings
from appliance.store.catalog import load_catalog
from appliance.store.models import ModelStore

_LINE_LENGTH = 110


@dataclass(frozen=True)
class _Cpu:
    """What was found of the CPU paths."""

    checks: list[Check]
    paths: CpuPaths | None  # None: they could not be tested
    amx_free_build_advised: bool


def run(settings: ServeSettings, *, as_json: bool, forget: bool) -> int:
    """Prints what was found; 1 if something makes serving impossible, else 0."""
    device = with_bandwidth(measure_device(), settings.state_dir, anew=True)
    threads = settings.threads or device.threads
    return examine(settings, device, Examination(threads, forget), as_json=as_json)


def examine(settings: ServeSettings, device: Device, how: Examination, *, as_json: bool) -> int:
    """`run` on a device that is measured already."""
    service = [
        service_checks.check_server(Address.of(settings)),
        service_checks.check_service_manager(),
    ]
    if settings.tls_cert is not None:
        service.append(service_checks.check_certificate(settings.tls_cert, time.time()))
    if settings.rpc:
        service.append(rpc_helpers.check_helpers(ask_helpers(settings.rpc), settings.rpc))
    disk = machine_checks.check_disk(settings.models_dir)
    cpu = _examine_cpu(settings, device, how)
    checks = [
        *cpu.checks,
        _examine_kernels(settings, how),
        machine_checks.check_memory(device),
        machine_checks.check_swap(device),
        machine_checks.check_bandwidth(device),
        machine_checks.check_cores(device, how.threads),
        machine_checks.check_heat(device),
        disk,
        confinement_checks.check_confinement(settings.confine),
        machine_checks.check_versions(),
        machine_checks.check_models(ModelStore(settings.models_dir, load_catalog()).list_models()),
        *(check for check in service if check is not None),
    ]
    print(json.dumps(_as_record(checks, cpu), indent=2) if as_json else _as_text(checks))
    return 1 if any(check.status is CheckStatus.FAIL for check in checks) else 0


def _examine_cpu(settings: ServeSettings, device: Device, how: Examination) -> _Cpu:
    library = inspect_library()
    first = cpu_checks.check_library(library)
    if not isinstance(library, LibraryInfo):
        return _Cpu([first], None, amx_free_build_advised=False)
    backend = cpu_checks.check_backend(library)
    checks = [first, *([backend] if backend else []), cpu_checks.check_gpus(library)]
    try:
        files = embedded_files(embedded_spec(settings), ProgressLines(sys.stderr))
    except ApplianceError as error:
        way_out = (
            "Without the embedded model, the CPU paths cannot be tested. Run ./install.sh again."
        )
        return _Cpu(
            [
                *checks,
                Check(
                    name="embedded model",
                    status=CheckStatus.FAIL,
                    finding=error.message,
                    way_out=way_out,
                ),
            ],
            None,
            False,
        )
    print("testing the CPU paths (a few seconds)", file=sys.stderr, flush=True)
    paths = examine_cpu_paths(files, path_memory(settings.state_dir), how)
    advised = cpu_checks.advises_amx_free_build(paths, library, device)
    return _Cpu([*checks, *_path_checks(paths, files, advised)], paths, advised)


def _examine_kernels(settings: ServeSettings, how: Examination) -> Check:
    library = find_kernels()
    if isinstance(library, str):
        return kernel_checks.check_missing(library)
    print("comparing the kernels (a few seconds)", file=sys.stderr, flush=True)
    test = examine_kernels(library, how.threads, kernel_memory(settings.state_dir))
    return kernel_checks.check_kernels(test)


def _path_checks(
    paths: CpuPaths, files: Sequence[Path], amx_free_build_advised: bool
) -> Iterator[Check]:
    types = [file.stem.rpartition("-")[2] for file in files]
    for path in CpuPath:
        yield cpu_checks.check_path(
            path, paths, types, amx_free_build_advised=amx_free_build_advised
        )
    yield cpu_checks.check_choice(paths)


def _as_record(checks: Sequence[Check], cpu: _Cpu) -> dict[str, object]:
    """Everything as JSON data; `serving_possible` agrees with the exit code."""
    return {
        "serving_possible": all(check.status is not CheckStatus.FAIL for check in checks),
        "amx_free_build_advised": cpu.amx_free_build_advised,
        "cpu_paths": None if cpu.paths is None else asdict(cpu.paths),
        "checks": [asdict(check) for check in checks],
    }


def _as_text(checks: Sequence[Check]) -> str:
    """Plain ASCII lines, the same on a terminal and in a pipe."""
    width = max(len(check.name) for check in checks)
    lines = [line for check in checks for line in _check_lines(check, width)]
    return "\n".join([*lines, "", _summary(checks)])


def _check_lines(check: Check, width: int) -> list[str]:
    indent = " " * (6 + width + 2)
    lines = textwrap.wrap(check.finding, _LINE_LENGTH - len(indent)) or [""]
    first = f"{check.status.value:<6}{check.name:<{width}}  {lines[0]}"
    rest = [indent + line for line in lines[1:]]
    way_out = textwrap.wrap(
        f"-> {check.way_out}", _LINE_LENGTH - len(indent), subsequent_indent="   "
    )
    return [first, *rest, *(indent + line for line in way_out if check.way_out)]


def _summary(checks: Sequence[Check]) -> str:
    fails = [check.name for check in checks if check.status is CheckStatus.FAIL]
    warnings = sum(check.status is CheckStatus.WARN for check in checks)
    if fails:
        return f"Serving is impossible: {', '.join(fails)}."
    if not warnings:
        return "Ready to serve."
    return f"Ready to serve, with {warnings} warning{'s' if warnings > 1 else ''}."

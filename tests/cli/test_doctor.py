"""The doctor on this machine with real children,
and its judgement of machines that are worse.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from appliance.cli import doctor
from appliance.cli.checks import CheckStatus
from appliance.cli.checks import confinement as confinement_checks
from appliance.cli.checks import cpu as cpu_checks
from appliance.cli.checks import machine as machine_checks
from appliance.cli.checks.service import check_server
from appliance.cli.network.reaching import Address
from appliance.fit.machine.device import Device, measure_device
from appliance.launch.cpu_paths import Examination, path_memory
from appliance.llama.checks import (
    CpuPath,
    CpuPaths,
    Demotion,
    LibraryInfo,
    NativeDevice,
    PathResult,
)
from appliance.settings import ServeSettings

WORKS, DIES = PathResult(True, "works"), PathResult(False, "died of SIGILL on novels-6m-Q8_0.gguf")
DEMOTION = Demotion("a worker was killed by SIGILL at work", "2026-11-22")
LIBRARY = LibraryInfo("CPU : AVX512 = 1 | AMX_INT8 = 1 | REPACK = 1 | ", False, [])
MACHINE = Device(
    ram_total_bytes=8 << 30,
    ram_available_bytes=4 << 30,
    memory_limit=None,
    usable_cpus=4,
    usable_cores=2,
    cpu_quota=None,
    cpu_flags=frozenset({"avx512f", "amx_tile"}),
)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> ServeSettings:
    """Directories of their own, in which the embedded model is converted once; nothing
    listens on port 1.
    """
    home = tmp_path_factory.mktemp("doctor")
    return ServeSettings(models_dir=home / "models", state_dir=home / "state", port=1)


def test_the_real_machine_as_json_and_what_is_remembered(
    settings: ServeSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    exit_code = doctor.examine(settings, measure_device(), Examination(2), as_json=True)
    report = json.loads(capsys.readouterr().out)
    checks = {check["name"]: check for check in report["checks"]}
    assert (exit_code, report["serving_possible"]) == (0, True)
    assert isinstance(report["amx_free_build_advised"], bool)
    paths = path_memory(settings.state_dir).recall()
    assert paths is not None
    assert checks["CPU path by default"]["data"]["chosen"] == paths.choose().path.value
    for path in CpuPath:
        assert report["cpu_paths"][path.value]["works"] == paths.of(path).works
    assert checks["models"]["data"]["novels-6m"]
    assert checks["disk"]["data"]["written_mb_per_s"] > 0
    assert checks["server"]["data"] == {"running": False}
    assert checks["versions"]["status"] == "ok"
    assert "llama_cpp" not in sys.modules


FAKE_PROBE = """
import os, signal, sys
import numpy as np
model, extra_bufts, threads, out = sys.argv[1:]
if extra_bufts in "{dying}".split():
    os.kill(os.getpid(), signal.SIGILL)
np.save(out, np.full((2, 4), np.log(0.25), np.float32))
"""


def examine(settings: ServeSettings, *, dying: str, forget: bool = False) -> int:
    """The table for a machine on
    which the paths `dying` (of "off" and "on") kill their process.
    """
    probe = [sys.executable, "-c", FAKE_PROBE.format(dying=dying)]
    return doctor.examine(settings, MACHINE, Examination(2, forget, probe), as_json=False)


def test_no_path_that_lives_is_a_fail_with_a_way_out(
    settings: ServeSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert examine(settings, dying="on off") == 1
    out = capsys.readouterr().out
    assert "\nFAIL  CPU path: plain weights       died of SIGILL on novels-6m-" in out
    assert "-> Run ./install.sh: it builds llama.cpp for this machine." in out
    assert out.splitlines()[-1] == (
        "Serving is impossible: CPU path: plain weights, CPU path: extra buffer types, CPU path "
        "by default."
    )


def test_one_path_that_dies_is_a_warning(
    settings: ServeSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert examine(settings, dying="on") == 0
    out = capsys.readouterr().out
    assert "\nok    CPU path: plain weights       computes correctly (Q2_K, Q4_K_M, Q8_0)\n" in out
    assert "\nwarn  CPU path: extra buffer types  died of SIGILL on novels-6m-" in out
    assert (
        "\nok    CPU path by default           plain weights: the only one that is usable\n" in out
    )


def test_a_demotion_outlives_a_good_probe_until_it_is_to_be_forgotten(
    settings: ServeSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    memory = path_memory(settings.state_dir)
    memory.remember(CpuPaths(WORKS, WORKS).with_demotion(CpuPath.EXTRA_BUFTS, DEMOTION))
    assert examine(settings, dying="") == 0
    assert "given up on 2026-11-22: a worker was killed by" in capsys.readouterr().out
    assert memory.recall() == CpuPaths(WORKS, replace(WORKS, demotion=DEMOTION))
    assert examine(settings, dying="", forget=True) == 0
    assert memory.recall() == CpuPaths(WORKS, WORKS)


@pytest.mark.parametrize(
    ("paths", "cpu_flags", "system_info", "advised"),
    [
        (CpuPaths(WORKS, DIES), {"amx_tile"}, "AMX_INT8 = 1", True),
        (CpuPaths(WORKS, replace(WORKS, demotion=DEMOTION)), {"amx_tile"}, "AMX_INT8 = 1", True),
        (CpuPaths(WORKS, WORKS), {"amx_tile"}, "AMX_INT8 = 1", False),
        (CpuPaths(DIES, DIES), {"amx_tile"}, "AMX_INT8 = 1", False),
        (CpuPaths(WORKS, DIES), {"avx512f"}, "AMX_INT8 = 1", False),
        (CpuPaths(WORKS, DIES), {"amx_tile"}, "REPACK = 1", False),
    ],
)
def test_a_build_without_amx_is_advised_where_amx_breaks_repacking(
    paths: CpuPaths, cpu_flags: set[str], system_info: str, advised: bool
) -> None:
    library, device = (
        replace(LIBRARY, system_info=system_info),
        replace(MACHINE, cpu_flags=frozenset(cpu_flags)),
    )
    assert cpu_checks.advises_amx_free_build(paths, library, device) is advised
    check = cpu_checks.check_path(
        CpuPath.EXTRA_BUFTS, paths, ["Q8_0"], amx_free_build_advised=advised
    )
    assert ("./install.sh --no-amx" in check.way_out) is advised


def test_a_library_that_cannot_be_loaded_is_a_fail() -> None:
    check = cpu_checks.check_library("died of SIGILL")
    assert (check.status, check.finding) == (
        CheckStatus.FAIL,
        "cannot be loaded: it died of SIGILL",
    )


@pytest.mark.parametrize(
    ("scores", "status", "finding"),
    [
        ({"x64": 1, "haswell": 63, "zen4": 1983, "sapphirerapids": 0}, CheckStatus.OK,
         "zen4, the best of the 3 of 4 that this CPU can run"),
        ({"x64": 1, "zen4": 63, "icelake": 64}, CheckStatus.WARN,
         "zen4, though icelake is the best of the 3 of 3 that this CPU can run"),
    ],
)  # fmt: skip
def test_the_back_end_that_computes_is_named(
    scores: dict[str, int], status: CheckStatus, finding: str
) -> None:
    cpu = NativeDevice(
        name="CPU",
        description="EPYC",
        kind="CPU",
        memory_total_bytes=0,
        memory_free_bytes=0,
        library="libggml-cpu-zen4.so",
    )
    files = {f"libggml-cpu-{name}.so": score for name, score in scores.items()}
    check = cpu_checks.check_backend(replace(LIBRARY, devices=[cpu], cpu_scores=files))
    assert check is not None
    assert (check.status, check.finding) == (status, finding)


def test_a_library_for_one_cpu_has_no_line_for_its_back_end() -> None:
    assert cpu_checks.check_backend(LIBRARY) is None


def test_a_gpu_is_listed() -> None:
    gpu = NativeDevice(
        name="CUDA0",
        description="NVIDIA H200",
        kind="GPU",
        memory_total_bytes=139 << 30,
        memory_free_bytes=138 << 30,
    )
    check = cpu_checks.check_gpus(replace(LIBRARY, devices=[gpu]))
    assert check.finding.startswith("CUDA0 NVIDIA H200 (139.00 GiB); `appliance fit` shows")
    assert check.data["used"] is False


def test_a_models_directory_that_cannot_be_written_to_is_a_fail(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check = machine_checks.check_disk(tmp_path / "file")
    assert (check.status, "cannot be written to" in check.finding) == (CheckStatus.FAIL, True)


def test_little_memory_and_less_quota_than_threads_are_warnings() -> None:
    assert machine_checks.check_memory(MACHINE).status is CheckStatus.OK
    assert (
        machine_checks.check_memory(replace(MACHINE, ram_available_bytes=100 << 20)).status
        is CheckStatus.WARN
    )
    assert (
        machine_checks.check_cores(replace(MACHINE, cpu_quota=1.5), threads=1).status
        is CheckStatus.OK
    )
    assert (
        machine_checks.check_cores(replace(MACHINE, cpu_quota=1.5), threads=2).status
        is CheckStatus.WARN
    )


@contextmanager
def listening(status: int, body: bytes) -> Iterator[int]:
    """A server that answers everything alike; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("http_status", "body", "status", "found"),
    [
        (200, b'{"status": "ok"}', CheckStatus.OK, "answers on"),
        (
            503,
            b'{"status": "failed", "reason": "m is failed: x."}',
            CheckStatus.WARN,
            "but its status is failed: m is failed: x.",
        ),
        (
            503,
            b'{"status": "starting"}',
            CheckStatus.WARN,
            "but its status is starting: it gives details only",
        ),
        (404, b"<html>", CheckStatus.WARN, "something other than the appliance"),
        (200, b"[]", CheckStatus.WARN, "something other than the appliance"),
    ],
)
def test_what_listens_at_our_address_is_recognized(
    http_status: int, body: bytes, status: CheckStatus, found: str
) -> None:
    with listening(http_status, body) as port:
        check = check_server(Address(host="127.0.0.1", port=port))
    assert check.status is status
    assert found in check.finding


WHOLE: dict[str, object] = {
    "landlock_version": 7,
    "has_seccomp": True,
    "gaps": [],
    "still_possible": [],
}
NO_LANDLOCK: dict[str, object] = {
    **WHOLE,
    "landlock_version": 0,
    "gaps": ["files are not confined: this kernel has no Landlock (it came with Linux 5.13)"],
    "still_possible": ["reading other files", "writing files"],
}


@pytest.mark.parametrize(
    ("found", "is_demanded", "status", "finding"),
    [
        (
            WHOLE,
            True,
            CheckStatus.OK,
            "this kernel confines workers: files (Landlock 7) and system calls (seccomp)",
        ),
        (
            {**WHOLE, "landlock_version": 4, "still_possible": ["sending signals to others"]},
            True,
            CheckStatus.OK,
            "this kernel confines workers: files (Landlock 4) and system calls (seccomp); still "
            "possible: sending signals to others",
        ),
        (
            NO_LANDLOCK,
            False,
            CheckStatus.WARN,
            "this kernel confines workers: system calls (seccomp); files are not confined: this "
            "kernel has no Landlock (it came with Linux 5.13); still possible: reading other "
            "files, writing files",
        ),
        (NO_LANDLOCK, True, CheckStatus.FAIL, None),
    ],
)
def test_what_the_kernel_can_take_is_told(
    found: dict[str, object], is_demanded: bool, status: CheckStatus, finding: str | None
) -> None:
    check = confinement_checks.judge(found, is_demanded=is_demanded)
    assert check.status is status
    if finding is not None:
        assert check.finding == finding


def test_rights_that_are_kept_are_told() -> None:
    check = confinement_checks.check_confinement("off")
    assert (check.status, check.finding) == (
        CheckStatus.WARN,
        "workers keep all rights: --confine is off",
    )

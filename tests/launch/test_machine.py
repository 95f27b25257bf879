"""GPUs are found, or refused before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.errors import BadSettings
from appliance.fit.machine.accelerators import RPC, Accelerator, Link
from appliance.fit.machine.rpc_helpers import HelperList
from appliance.launch import machine as launch_machine
from appliance.launch.machine import GpuList, Machine, measure_machine
from appliance.llama.checks import CpuPaths, LibraryInfo, NativeDevice, PathResult
from tests.launch.specs import Events, spec_of

MIB = 1 << 20
NONE = GpuList((), "llama.cpp was built without GPU support here")
CARD = Accelerator(
    name="CUDA0",
    description="NVIDIA RTX 2000",
    kind="GPU",
    memory_total_bytes=4096 * MIB,
    memory_free_bytes=2048 * MIB,
)


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Machine]:
    """Measures the machine for these settings, with CPU paths that need no probing."""
    works = PathResult(True, "works")
    monkeypatch.setattr(launch_machine, "cpu_paths", lambda *_: CpuPaths(works, works))
    return lambda **settings: measure_machine(spec_of(tmp_path, **settings), Events())


def see(monkeypatch: pytest.MonkeyPatch, gpus: GpuList) -> None:
    monkeypatch.setattr("appliance.launch.machine.list_gpus", lambda: gpus)


@pytest.mark.parametrize(
    ("layers", "said"), [(20, "--gpu-layers 20 "), (1 << 20, "--gpu-layers all ")]
)
def test_layers_for_a_gpu_that_is_not_there_are_refused_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch,
    measured: Callable[..., Machine],
    layers: int,
    said: str,
) -> None:
    see(monkeypatch, NONE)
    with pytest.raises(BadSettings) as refused:
        measured(gpu_layers=layers)
    assert refused.value.message.startswith(
        f"{said}needs a GPU, but there is none to use: {NONE.finding}."
    )
    assert "./install.sh --cuda" in refused.value.message
    assert "--gpu-layers 0 or auto" in refused.value.message


def test_auto_computes_on_the_cpu_and_says_why(
    monkeypatch: pytest.MonkeyPatch, measured: Callable[..., Machine]
) -> None:
    see(monkeypatch, NONE)
    assert measured().gpu_finding == NONE.finding
    see(monkeypatch, GpuList((CARD,), "as llama.cpp lists them"))
    assert measured().gpu_finding is None
    assert measured().device.accelerators == (CARD,)
    assert measured(gpu_layers=0).device.accelerators == (), "nobody was asked for any"


def test_only_gpus_are_taken_from_the_librarys_list(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = NativeDevice(
        name="CPU", description="Xeon", kind="CPU", memory_total_bytes=1, memory_free_bytes=1
    )
    gpu = NativeDevice(
        name="CUDA0",
        description="NVIDIA H200",
        kind="GPU",
        memory_total_bytes=139 << 30,
        memory_free_bytes=138 << 30,
    )
    monkeypatch.setattr(launch_machine, "may_have_gpus", lambda: True)
    monkeypatch.setattr(
        launch_machine, "inspect_library", lambda: LibraryInfo("", True, [cpu, gpu])
    )
    gpus = launch_machine.list_gpus()
    assert gpus.accelerators == (
        Accelerator(
            name="CUDA0",
            description="NVIDIA H200",
            kind="GPU",
            memory_total_bytes=139 << 30,
            memory_free_bytes=138 << 30,
        ),
    )

    monkeypatch.setattr(launch_machine, "inspect_library", lambda: "died of SIGSEGV")
    assert (
        launch_machine.list_gpus().finding
        == "unknown: llama.cpp, when asked for them, died of SIGSEGV"
    )


HELPER = Accelerator(
    name="192.0.2.12:50052",
    description="RPC helper gpu-box:50052",
    kind=RPC,
    memory_total_bytes=4096 * MIB,
    memory_free_bytes=2048 * MIB,
    link=Link(round_trip_s=1e-4, bytes_per_s=1e8, copy_bytes_per_s=1e10),
)


def answer(monkeypatch: pytest.MonkeyPatch, found: HelperList, *, has_rpc: bool = True) -> None:
    monkeypatch.setattr("appliance.launch.rpc_helpers.has_rpc", lambda: has_rpc)
    monkeypatch.setattr("appliance.launch.rpc_helpers.ask_helpers", lambda _addresses: found)


def test_helpers_are_devices_and_our_kernels_stay(
    monkeypatch: pytest.MonkeyPatch, measured: Callable[..., Machine]
) -> None:
    see(monkeypatch, NONE)
    answer(monkeypatch, HelperList((HELPER,), ("the helper b:50052 cannot be reached (...)",)))
    machine = measured(rpc=("gpu-box:50052", "b:50052"), gpu_layers=3)
    assert machine.device.accelerators == (HELPER,)
    assert machine.gpu_finding == NONE.finding, "so our kernels are used where no layer leaves"
    assert machine.device.bandwidth is not None, "theirs is compared with it"
    answer(monkeypatch, HelperList((), ("the helper b:50052 cannot be reached (...)",)))
    machine = measured(rpc=("b:50052",), gpu_layers=3)
    assert machine.device.accelerators == (), "one that is gone may come back"


def test_what_helps_nobody_is_refused(
    monkeypatch: pytest.MonkeyPatch, measured: Callable[..., Machine]
) -> None:
    see(monkeypatch, NONE)
    words = "the helper b:50052 speaks RPC 6.0.0, and this llama.cpp speaks 7.0.0. Install ..."
    answer(monkeypatch, HelperList(refused=(words,)))
    with pytest.raises(BadSettings, match=r"--rpc: the helper b:50052 speaks RPC 6\.0\.0"):
        measured(rpc=("b:50052",))
    answer(monkeypatch, HelperList((HELPER,)), has_rpc=False)
    with pytest.raises(BadSettings, match="has no RPC backend"):
        measured(rpc=("b:50052",))

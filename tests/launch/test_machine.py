"""GPUs are found, or refused before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.errors import BadSettings
from appliance.fit.machine.accelerators import Accelerator
from appliance.launch import machine as launch_machine
from appliance.launch.machine import GpuList, measure_machine
from appliance.llama.checks import LibraryInfo, NativeDevice
from appliance.settings import ServeSettings

MIB = 1 << 20
NONE = GpuList((), "llama.cpp is built without GPU support here")
CARD = Accelerator(
    name="CUDA0",
    description="NVIDIA RTX 2000",
    kind="GPU",
    memory_total_bytes=4096 * MIB,
    memory_free_bytes=2048 * MIB,
)


def settings(**values: object) -> ServeSettings:
    return ServeSettings(models_dir=Path("/m"), state_dir=Path("/s"), **values)  # type: ignore[arg-type] # any option


def see(monkeypatch: pytest.MonkeyPatch, gpus: GpuList) -> None:
    monkeypatch.setattr("appliance.launch.machine.list_gpus", lambda: gpus)


@pytest.mark.parametrize(
    ("layers", "said"), [(20, "--gpu-layers 20: "), (1 << 20, "--gpu-layers all: ")]
)
def test_layers_for_a_gpu_that_is_not_there_are_refused_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch, layers: int, said: str
) -> None:
    see(monkeypatch, NONE)
    with pytest.raises(BadSettings) as refused:
        measure_machine(settings(gpu_layers=layers))
    assert refused.value.message.startswith(
        f"{said}there is no GPU to use: llama.cpp is built without GPU support here."
    )
    assert "./install.sh --cuda" in refused.value.message
    assert "--gpu-layers 0 or auto" in refused.value.message


def test_auto_computes_on_the_cpu_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    see(monkeypatch, NONE)
    assert measure_machine(settings()).gpu_finding == "llama.cpp is built without GPU support here"
    see(monkeypatch, GpuList((CARD,), "as llama.cpp lists them"))
    assert measure_machine(settings()).gpu_finding is None
    assert measure_machine(settings()).device.accelerators == (CARD,)
    assert measure_machine(settings(gpu_layers=0)).device.accelerators == (), (
        "nobody was asked for any"
    )


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
        launch_machine.list_gpus().finding == "unknown: llama.cpp, asked for them, died of SIGSEGV"
    )

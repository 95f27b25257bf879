"""`appliance fit` shows which layers went to which GPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from appliance.cli import main
from appliance.cli.tables.placement import as_text
from appliance.fit.machine.accelerators import Accelerator
from appliance.fit.plan.offload import Gpu, GpuOverrides
from appliance.fit.plan.placement import Demand
from appliance.fit.plan.placing.layer_assignment import place
from appliance.fit.plan.placing.layers import LayerBytes
from appliance.launch.machine import GpuList
from appliance.llama.checks import CpuPaths, PathResult
from tests.store.samples import Sample, write_sample

MIB = 1 << 20
WORKS = PathResult(True, "works")
CARD = Accelerator(
    name="CUDA0",
    description="NVIDIA RTX 2000",
    kind="GPU",
    memory_total_bytes=4096 * MIB,
    memory_free_bytes=2048 * MIB,
)


def see(monkeypatch: pytest.MonkeyPatch, gpus: GpuList) -> None:
    monkeypatch.setattr("appliance.launch.machine.list_gpus", lambda: gpus)
    monkeypatch.setattr("appliance.launch.machine.cpu_paths", lambda *_: CpuPaths(WORKS, WORKS))


def test_fit_shows_what_went_where(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    see(monkeypatch, GpuList((CARD,), "as llama.cpp lists them"))
    model = str(write_sample(tmp_path / "m.gguf", Sample()))

    assert main(["fit", model], {"HOME": str(tmp_path)}) == 0
    text = capsys.readouterr().out
    assert "On GPUs: 3 of 3 layers, the output layer first\n" in text
    assert "All 3 layers with their KV cache fit on CUDA0." in text

    assert main(["fit", "--json", "--gpu-layers", "2", model], {"HOME": str(tmp_path)}) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["placement"]["offload"]["gpu_layers"] == 2
    assert plan["placement"]["offload"]["devices"] == ["CUDA0"]
    assert plan["need"]["kv_bytes"] == plan["placement"]["host"]["kv_bytes"] > 0


def test_a_placement_as_a_table() -> None:
    layers = LayerBytes((100 * MIB,) * 4 + (50 * MIB,), (10 * MIB,) * 4 + (0,), 40 * MIB, 0)
    model = Demand(
        layers=layers,
        all_weights_bytes=470 * MIB,
        compute_bytes=30 * MIB,
        attention_bytes=0,
        input_bytes=5 * MIB,
    )
    gpus = [
        Gpu(name="CUDA0", description="NVIDIA RTX 2000", free_bytes=656 * MIB),
        Gpu(name="CUDA1", description="NVIDIA T400", free_bytes=506 * MIB),
    ]

    assert as_text(place(model, gpus, GpuOverrides())) == TWO_GPUS
    assert as_text(place(model, [], GpuOverrides())) == ""


TWO_GPUS = """\
On GPUs: 5 of 5 layers, the output layer first, split by layer
         layers  weights    KV cache  compute   total
  CUDA0       3  300.0 MiB  30.0 MiB  45.0 MiB  375.0 MiB  of 400.0 MiB: 656.0 MiB free, less headroom (NVIDIA RTX 2000)
  CUDA1       2  150.0 MiB  10.0 MiB  45.0 MiB  205.0 MiB  of 250.0 MiB: 506.0 MiB free, less headroom (NVIDIA T400)
  RAM         0   20.0 MiB   0.0 MiB  20.0 MiB   40.0 MiB  always holds the token embeddings"""  # noqa: E501 - a table as it is printed

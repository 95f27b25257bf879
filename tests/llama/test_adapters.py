"""Adapters on each kind of memory, in child processes: sequences with other ones say what
they would say alone, and share nothing with each other.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from appliance.llama.checks import find_kernels
from bench.memory_kinds import KINDS, TINY
from convert.pipeline import Job, convert
from tests.adapter_files import write_control_vector, write_lora
from tests.conftest import Embedded
from tests.convert.checkpoints import golden_checkpoint

KERNELS = ["ggml"] if isinstance(find_kernels(), str) else ["ggml", "own"]
NEAR_TIE = 2e-2  # between two tokens' log-probabilities: what rounding may turn
SETS = {"none", "first", "weak", "both", "vector", "all"}


def report(model: Path, folder: Path, kv_type: str, kernels: str) -> dict[str, Any]:
    files = [
        write_lora(folder / "one.gguf", model, 1),
        write_lora(folder / "two.gguf", model, 2),
        write_control_vector(folder / "vector.gguf", model, 3),
    ]
    command = [sys.executable, "-m", "tests.llama.adapter_equality", str(model), kv_type]
    command += [*map(str, files), *(["kernels"] if kernels == "own" else [])]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr[-3000:]
    found: dict[str, Any] = json.loads(child.stdout)
    return found


def check(found: dict[str, Any]) -> None:
    assert max(found["gaps"], default=0.0) < NEAR_TIE
    assert found["told"].keys() == SETS
    assert len({tuple(gaps) for gaps in found["told"].values()}) == len(SETS)
    # 30 new tokens, and the answer's last one, which was sampled and not computed
    assert found["computed"] == dict.fromkeys(SETS, 31)
    assert found["restarted"] == dict.fromkeys(SETS, 30)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("kv_type", ["f16", "q8_0"])
def test_cells_that_are_shared(
    kv_type: str, kernels: str, embedded: Embedded, tmp_path: Path
) -> None:
    # with weights of eight bits ggml rounds what it multiplies: the last digit counts for more
    weights = "Q8_0" if kernels == "own" else "F32"
    check(report(embedded.files[weights], tmp_path, kv_type, kernels))


@pytest.mark.parametrize("kind", KINDS)
def test_states(kind: str, embedded: Embedded, tmp_path: Path) -> None:
    model = KINDS[kind](embedded.files["Q8_0"], tmp_path / "model.gguf", TINY)
    check(report(model, tmp_path, "f16", KERNELS[-1]))


def test_a_sliding_window(tmp_path: Path) -> None:
    source = golden_checkpoint("gemma3", tmp_path / "gemma3")
    job = Job(source=source, directory=tmp_path, name="model", types=("F32",), num_threads=1)
    check(report(convert(job)[0].path, tmp_path, "f16", KERNELS[-1]))

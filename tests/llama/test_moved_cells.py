"""llama.cpp's cells, moved to other positions, in child processes: they say what they
said, nobody else's change, and models whose cells stay are named.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from appliance.llama.checks import find_kernels
from bench.memory_kinds import write_recurrent
from convert.pipeline import Job, convert
from tests.conftest import Embedded
from tests.convert.checkpoints import golden_checkpoint

KERNELS = ("ggml",) if isinstance(find_kernels(), str) else ("ggml", "own")


def report(model: Path, kv_type: str, kernels: str, flash_attention: str = "on") -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.llama.moved_cells", str(model)]
    command += [kv_type, flash_attention, kernels]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr[-2000:]
    found: dict[str, Any] = json.loads(child.stdout)
    return found


def check_moved(found: dict[str, Any], kernels: str, most: float = 0.1) -> None:
    """`most`: rounding, as a share of what another text makes of the logits."""
    assert found["changed_bytes"] == 0, "llama.cpp turns all cells: others' by no angle"
    if kernels == "own":
        assert found["same_place"] == 0.0
    gaps = (found["moved"], found["back"], found["same_place"])
    assert max(gaps) < most * found["other_text"], found
    assert not found["is_saved_early"], "a key that is not turned yet belongs to no position"
    assert found["is_saved_then"]


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("flash_attention", ["on", "off"])
def test_moved_cells_say_what_they_said(
    embedded: Embedded, kernels: str, flash_attention: str
) -> None:
    found = report(embedded.files["Q8_0"], "f16", kernels, flash_attention)
    check_moved(found, kernels if flash_attention == "on" else "ggml")


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("kv_type", ["q8_0", "q5_1", "q4_0", "q8_0/q4_0", "f16/q4_0"])
def test_so_do_quantized_ones(real_model: Path, kv_type: str, kernels: str) -> None:
    # what has few bits is rounded a second time (5: 0.102 on a CPU with AVX2 alone)
    most = {"q4_0": 0.2, "q5_1": 0.15}.get(kv_type, 0.1)
    check_moved(report(real_model, kv_type, kernels), kernels, most)


def test_cells_stay_where_llama_cpp_would_die_of_their_type(embedded: Embedded) -> None:
    found = report(embedded.files["Q8_0"], "q8_0", "ggml")
    assert "(--kv-type f16 would do)" in found["why"]


def test_a_recurrent_state_stays(embedded: Embedded, tmp_path: Path) -> None:
    model = write_recurrent(embedded.files["Q8_0"], tmp_path / "recurrent.gguf")
    assert "a state" in report(model, "f16", "ggml")["why"]


@pytest.mark.parametrize(
    ("name", "why"), [("gemma3", "a sliding window"), ("phi3", "lengthen its keys")]
)
def test_so_do_cells_of_windows_and_of_scaled_positions(
    name: str, why: str, tmp_path: Path
) -> None:
    source = golden_checkpoint(name, tmp_path / name)
    job = Job(source=source, directory=tmp_path, name="model", types=("F32",), num_threads=1)
    assert why in report(convert(job)[0].path, "f16", "ggml")["why"]

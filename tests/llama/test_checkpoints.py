"""Chats on each kind of memory whose sequences share no cells, in child processes: each
turn computes only its new tokens, and says what it would say with nothing kept.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from appliance.llama.checks import find_kernels
from bench.memory_kinds import KINDS, TINY, write_scalar_recurrent
from tests.conftest import Embedded

KERNELS = ["ggml"] if isinstance(find_kernels(), str) else ["ggml", "own"]
NEAR_TIE = 2e-2  # between two tokens' log-probabilities: what rounding may turn


EXACT = {**KINDS, "recurrent by scalars": write_scalar_recurrent}
WAYS = {
    "one by one",
    "in chunks",
    "beside others",
    "behind a restored one",
    "behind a chain of them",
    "in a context of 0 earlier states",
    "in a context of 2 earlier states",
}


def report(model: Path, kv_type: str, kernels: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.llama.state_equality", str(model), kv_type]
    command += ["kernels"] if kernels == "own" else []
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr[-2000:]
    found: dict[str, Any] = json.loads(child.stdout)
    return found


def check(found: dict[str, Any]) -> None:
    # 30 new tokens, and the answer's last one, which was sampled and not computed
    later = [31, 31, 31, 31]
    assert found["computed"] == [[120 + 30, *later], [30, *later], [30, *later]]
    restarted, preempted = found["restarted"], found["preempted"]
    assert restarted["computed"] == restarted["new"] == 30
    assert preempted["times"] > 0
    assert preempted["rows"] == 3 * (50 + 59), "nothing is computed a second time"
    gaps = [*found["gaps"], *restarted["gaps"], *preempted["gaps"]]
    assert not (gaps and found["is_exact"])
    assert max(gaps, default=0.0) < NEAR_TIE


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_turn_computes_only_what_is_new(
    kind: str, kernels: str, embedded: Embedded, tmp_path: Path
) -> None:
    model = KINDS[kind](embedded.files["Q8_0"], tmp_path / "model.gguf", TINY)
    found = report(model, "f16", kernels)
    assert found["is_exact"] == (kernels == "own")
    check(found)


@pytest.mark.parametrize("kv_type", ["q8_0", "q8_0/q4_0"])
@pytest.mark.parametrize("kind", ["delta-net", "convolution-and-window", "window"])
def test_so_it_does_with_quantized_cells(
    kind: str, kv_type: str, embedded: Embedded, tmp_path: Path
) -> None:
    model = KINDS[kind](embedded.files["Q8_0"], tmp_path / "model.gguf", TINY)
    check(report(model, kv_type, KERNELS[-1]))


@pytest.mark.skipif(len(KERNELS) < 2, reason="needs our own kernels")
@pytest.mark.parametrize("kv_type", ["f16", "q8_0"])
@pytest.mark.parametrize("kind", EXACT)
def test_rows_are_the_same_bit_by_bit_and_the_runner_says_so(
    kind: str, kv_type: str, embedded: Embedded, tmp_path: Path
) -> None:
    model = EXACT[kind](embedded.files["Q8_0"], tmp_path / "model.gguf", TINY)
    command = [sys.executable, "-m", "tests.llama.state_row_equality", str(model), kv_type]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr[-2000:]
    found = json.loads(child.stdout)
    assert found["different"].keys() == WAYS
    assert found["is_exact"]
    assert {way: n for way, (n, _) in found["different"].items() if n} == {}
    assert min(num_rows for _, num_rows in found["different"].values()) > 10

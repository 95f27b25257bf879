"""Kernels of our own, in child processes: no row depends on what is beside it. Skipped
where there are none.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from appliance.llama.checks import find_kernels
from tests.conftest import NUM_COMPARED, Embedded

_KERNELS = find_kernels()
pytestmark = pytest.mark.skipif(isinstance(_KERNELS, str), reason=f"our own kernels {_KERNELS}")

WAYS = {
    "one by one",
    "in chunks",
    "beside others",
    "in holes",
    "behind a shared prefix",
    "behind a restored one",
    "behind one cut off",
}


def report(module: str, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", f"tests.llama.{module}", *arguments]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr[-2000:]
    found: dict[str, Any] = json.loads(child.stdout)
    return found


def check_rows(model: Path, kv_type: str) -> None:
    found = report("row_equality", str(model), kv_type)
    assert found["different"].keys() == WAYS
    assert {way: n for way, (n, _) in found["different"].items() if n} == {}
    assert min(num_rows for _, num_rows in found["different"].values()) > 10
    assert found["is_exact"]


@pytest.mark.parametrize("kv_type", ["f16", "q8_0"])
@pytest.mark.parametrize("kind", ["F32", "Q4_K_M"])
def test_rows_are_the_same_bit_by_bit_however_they_are_computed(
    embedded: Embedded, kind: str, kv_type: str
) -> None:
    check_rows(embedded.files[kind], kv_type)


@pytest.mark.parametrize("kv_type", ["f16", "q8_0"])
def test_those_of_a_real_model_too(real_model: Path, kv_type: str) -> None:
    check_rows(real_model, kv_type)


def test_answers_in_company_are_those_alone(
    embedded: Embedded, questions: list[str], tmp_path: Path
) -> None:
    """80 prompts (LONG_TESTS=1: 200) x 64 greedy tokens, each one: see `test_llama`."""
    prompts = tmp_path / "prompts.json"
    prompts.write_text(json.dumps(questions[:NUM_COMPARED]))
    found = report(
        "batch_equality", str(embedded.files["Q4_K_M"]), str(prompts), "64", "f16", "kernels"
    )
    assert found == {"gaps": [], "most_together": 4}

"""A model's own heads as a drafter: answers are those without, what is proposed depends on
nothing that was drafted before, and each row is computed once.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.memory_kinds import TINY, write_delta_net, write_with_heads
from tests.conftest import ROOT, Embedded
from tests.llama.reports import PROMPTS, report_of


@pytest.mark.parametrize("kv_type", ["f16", "q8_0"])
def test_heads_draft_for_several_and_answers_stay_the_same(
    kv_type: str, embedded: Embedded, tmp_path: Path
) -> None:
    model = write_with_heads(embedded.files["Q8_0"], tmp_path / "model.gguf", TINY)
    prompts = tmp_path / "prompts.json"
    prompts.write_text(json.dumps(PROMPTS))
    report: dict[str, Any] = report_of("own_heads_equality", model, prompts, 64, kv_type)
    assert report["gaps"] == []
    assert report["num_proposed"] > 400
    assert report["num_other"] <= report["num_proposed"] // 100, "near-ties"
    assert report["rows"] == report["expected_rows"]
    assert 100 < report["num_accepted"] < report["num_drafted"] - 100


def test_a_model_without_heads_is_refused_by_name(embedded: Embedded, tmp_path: Path) -> None:
    model = write_delta_net(embedded.files["Q8_0"], tmp_path / "model.gguf", TINY)
    command = [sys.executable, "-m", "appliance", "fit", str(model), "--draft", "mtp"]
    child = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert child.returncode != 0
    assert "--draft mtp needs a model with heads that draft for it" in child.stderr

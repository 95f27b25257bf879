"""llama.cpp behind the Runner seam, always in a child process: the test run itself must survive native crashes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.errors import NoUsableCpuPath
from appliance.llama import selftest
from appliance.llama.selftest import CpuPaths, PathResult
from tests.conftest import Embedded


@pytest.mark.parametrize(("kind", "most_different", "largest_gap"), [("F32", 4, 0.01), ("Q4_K_M", 90, 0.1)])
def test_answers_in_company_equal_those_alone_but_for_near_ties(
    embedded: Embedded, questions: list[str], tmp_path: Path, kind: str, most_different: int, largest_gap: float
) -> None:
    """200 prompts x 64 greedy tokens, f16 KV. F32 weights hold us to the figure: at most 2 %, ties within 0.01.

    With quantized weights llama.cpp also quantizes activations, and a last digit that differs (cells in another order,
    another kernel from 64 rows on) moves log-probabilities of this model by up to 0.07; docs/performance.md has the
    measured numbers. The wider bound still finds rows of a wrong sequence or position: those change everything.
    """
    prompts = tmp_path / "prompts.json"
    prompts.write_text(json.dumps(questions[:200]))
    command = [sys.executable, "-m", "tests.llama.batch_equality", str(embedded.files[kind]), str(prompts), "64", "f16"]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr[-2000:]
    report = json.loads(child.stdout)
    assert report["most_together"] == 4
    assert max(report["gaps"], default=0) <= largest_gap, report
    assert len(report["gaps"]) <= most_different, report


def test_our_count_of_cells_is_llama_cpps_own_at_every_decode(embedded: Embedded) -> None:
    command = [sys.executable, "-m", "tests.llama.cell_count", str(embedded.files["Q8_0"]), "2000"]
    environment = {**os.environ, "LLAMA_KV_CACHE_DEBUG": "1"}
    child = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert child.returncode == 0, child.stderr[-2000:]
    report = json.loads(child.stdout)
    assert (report["steps"], report["wrong"]) == (2000, 0)
    assert report["most_used"] > 400, "the pool of 512 was nearly full at times"


def test_the_cpu_paths_are_probed_once_and_remembered(embedded: Embedded, tmp_path: Path) -> None:
    state_file = tmp_path / "state" / "cpu_paths.json"
    models = [embedded.files[kind] for kind in ("Q8_0", "Q4_K_M")]
    found = selftest.find_cpu_paths(models, 2, state_file)
    assert found.plain.usable or found.extra_bufts.usable
    # A second call must come from the file: with these models it could find nothing.
    assert selftest.find_cpu_paths([tmp_path / "absent.gguf"], 2, state_file) == found
    state_file.write_text("{damaged")
    again = selftest.find_cpu_paths([tmp_path / "absent.gguf"], 2, state_file)
    assert not again.plain.usable
    assert "absent.gguf" in again.plain.reason


FAKE_PROBE = """
import json, os, signal, sys
import numpy as np
model, extra_bufts, threads, out = sys.argv[1:]
if extra_bufts == "on" and "{fault}" == "dies":
    os.kill(os.getpid(), signal.SIGILL)
logits = np.random.default_rng(1 if extra_bufts == "on" and "{fault}" == "garbage" else 0).normal(size=(4, 32)) * 5
log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
np.save(out, log_probs.astype(np.float32))
print(json.dumps({{"prefill_ms": 2.0, "decode_ms": 1.0}}))
"""


@pytest.mark.parametrize(
    ("fault", "usable", "reason"),
    [("none", True, "works"), ("dies", False, "died of SIGILL on m.gguf"), ("garbage", False, "its logits differ")],
)
def test_a_path_that_dies_or_computes_something_else_is_not_used(
    tmp_path: Path, fault: str, usable: bool, reason: str
) -> None:
    probe = [sys.executable, "-c", FAKE_PROBE.format(fault=fault)]
    paths = selftest.find_cpu_paths([tmp_path / "m.gguf"], 2, tmp_path / "cpu_paths.json", probe)
    assert paths.plain == PathResult(True, "works", 2.0, 1.0)
    assert paths.extra_bufts.usable is usable
    assert paths.extra_bufts.reason.startswith(reason)


def test_the_path_that_lives_is_chosen_and_none_at_all_is_an_error() -> None:
    works, dies = PathResult(True, "works"), PathResult(False, "died of SIGILL")
    assert CpuPaths(plain=dies, extra_bufts=works).use_extra_bufts() is True
    assert CpuPaths(plain=works, extra_bufts=dies).use_extra_bufts() is False
    with pytest.raises(NoUsableCpuPath, match="SIGILL"):
        CpuPaths(plain=dies, extra_bufts=dies).use_extra_bufts()

"""Sampling on real logits, in child processes: llama.cpp's own samplers and exact
distributions are the oracles.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from convert.pipeline import Job, convert
from tests.conftest import Embedded
from tests.convert.checkpoints import golden_checkpoint


@pytest.mark.parametrize("kind", ["F32", "Q4_K_M"])
def test_one_thread_and_several_choose_as_if_the_whole_vocabulary_were_shown_to_llama_cpp(
    embedded: Embedded, kind: str
) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.llama.sampling_equality",
        str(embedded.files[kind]),
        "100",
    ]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr[-2000:]
    report = json.loads(child.stdout)
    assert (report["compared"], report["different"]) == (2800, 0)
    assert report["without_numbers"] == "DecodeFailed"
    assert report["logprob_error"] < 2e-7


@pytest.mark.parametrize("way", ["plain", "drafted"])
def test_three_tokens_in_a_row_have_the_distribution_of_the_model(
    embedded: Embedded, way: str
) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.llama.joint_distribution",
        str(embedded.files["F32"]),
        way,
        "6000",
    ]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr[-2000:]
    report = json.loads(child.stdout)
    assert report["num_cells"] > 30, "outcomes that are expected five times or more"
    assert report["p_value"] > 1e-3, "the seeds are fixed, so this holds always or never"
    assert report["p_value_of_others"] < 1e-9, (
        "the same numbers against another temperature: the test would find that"
    )
    assert way == "plain" or report["share_accepted"] > 0.2


WARM_UP = """
import sys
from pathlib import Path
from appliance.errors import DecodeFailed
from appliance.llama.context import ContextConfig
from appliance.llama.model import Model
from appliance.llama.runner import LlamaRunner
from appliance.protocol.context_sizes import ContextSizes

sizes = ContextSizes(
    kv_cells=256, slots=1, max_rows=64, kv_type="f16", threads=1, batch_threads=1, ubatch_rows=64
)
config = ContextConfig(sizes=sizes)
runner = LlamaRunner(Model(Path(sys.argv[1]), use_extra_bufts=False), config)
try:
    runner.warm_up()
except DecodeFailed as error:
    print(error.message)
"""


def test_a_model_that_computes_no_numbers_is_told_before_its_first_request(
    embedded: Embedded, tmp_path: Path
) -> None:
    content = bytearray(embedded.files["F32"].read_bytes())
    [norm] = [
        t for t in gguf.GGUFReader(embedded.files["F32"]).tensors if t.name == "output_norm.weight"
    ]
    content[norm.data_offset : norm.data_offset + 4] = np.float32(np.nan).tobytes()
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(content)
    said = []
    for path in (embedded.files["F32"], broken):
        command = [sys.executable, "-c", WARM_UP, str(path)]
        said.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert said[0] == ""
    assert "largest logit is nan" in said[1]


@pytest.mark.parametrize(
    ("kind", "kv_type", "way", "num_prompts"),
    [
        ("F32", "f16", "greedy", 200),
        ("F32", "f16", "seeded", 24),
        ("F32", "q8_0", "greedy", 24),
        ("F32", "q4_0", "seeded", 24),
    ],
)
def test_answers_are_the_same_whatever_was_drafted(
    embedded: Embedded,
    questions: list[str],
    tmp_path: Path,
    kind: str,
    kv_type: str,
    way: str,
    num_prompts: int,
) -> None:
    report = _drafted(embedded.files[kind], questions[:num_prompts], tmp_path, kv_type, way)
    assert len(report["gaps"]) <= num_prompts // 50
    assert max(report["gaps"], default=0.0) < 0.01, (
        "a first difference only where two tokens are as good"
    )
    assert report["num_drafted"] > 50 * num_prompts
    assert 0.3 < report["num_accepted"] / report["num_drafted"] < 0.9


def test_sliding_windows_take_drafts_back_too(questions: list[str], tmp_path: Path) -> None:
    """Windows of 16 tokens, in three layers of four;
    each answer is longer than nine of them.
    """
    checkpoint = golden_checkpoint("gemma3", tmp_path / "checkpoint")
    [made] = convert(
        Job(source=checkpoint, directory=tmp_path, name="model", types=("F32",), num_threads=1)
    )
    report = _drafted(made.path, questions[:12], tmp_path, "f16", "seeded")
    assert report["gaps"] == []
    assert report["num_accepted"] < report["num_drafted"] - 100


def _drafted(
    model: Path, prompts: list[str], folder: Path, kv_type: str, way: str
) -> dict[str, Any]:
    listed = folder / "prompts.json"
    listed.write_text(json.dumps(prompts))
    command = [
        sys.executable,
        "-m",
        "tests.llama.drafted_equality",
        str(model),
        str(listed),
        "64",
        kv_type,
        way,
    ]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr[-2000:]
    report: dict[str, Any] = json.loads(child.stdout)
    assert report["num_cells_left"] == 0
    return report

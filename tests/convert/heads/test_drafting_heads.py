"""Layers that draft for a model (`--mtp`), of golden checkpoints: llama.cpp computes with
them what transformers' parts do (tests/convert/golden/make_heads.py), and they are
quantized as llama.cpp does it.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader

from appliance.fit.plan.shape import can_draft_itself
from appliance.store.gguf_header import read_header
from convert.__main__ import main
from convert.errors import UnsupportedModel
from convert.pipeline import Job, convert
from tests.convert import llama_tools
from tests.convert.checkpoints import (
    GOLDEN,
    Shape,
    change_config,
    golden_checkpoint,
    golden_folder,
    read_safetensors,
    write_checkpoint,
    write_safetensors,
)
from tests.llama.reports import PROMPTS, report_of

NAMES = ("qwen35", "qwen35_moe", "qwen3_next")
QUANTIZED = ("Q8_0", "Q4_K_M")


def with_heads(name: str, directory: Path) -> Path:
    """The golden checkpoint `name` with its heads."""
    source = golden_checkpoint(name, directory)
    path = source / "model.safetensors"
    heads = read_safetensors(GOLDEN / "heads" / f"{name}.safetensors")
    write_safetensors(path, {**read_safetensors(path), **heads}, "BF16")
    return source


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Path]]:
    """Each checkpoint's files with heads, by type."""
    folder = tmp_path_factory.mktemp("heads")
    files = {}
    for name in NAMES:
        job = Job(
            source=with_heads(name, folder / name),
            directory=folder,
            name=name,
            types=("F32", "BF16", *QUANTIZED),
            num_threads=1,
            drafts=True,
        )
        files[name] = {file.type: file.path for file in convert(job)}
    return files


def test_heads_say_what_they_were_trained_to(converted: dict[str, dict[str, Path]]) -> None:
    tokens = {name: np.load(golden_folder(name) / "reference.npz")["tokens"] for name in NAMES}
    actual = llama_tools.head_log_probs_of_many(
        {converted[name]["F32"]: tokens[name] for name in NAMES}
    )
    for name in NAMES:
        expected = np.load(GOLDEN / "heads" / f"{name}.npz")["log_probs"]
        said = actual[converted[name]["F32"]]
        assert np.abs(said - expected).max() < 1e-3, name
        assert (said.argmax(axis=1) == expected.argmax(axis=1)).all(), name


def test_they_are_quantized_as_llama_cpp_does_it(converted: dict[str, dict[str, Path]]) -> None:
    theirs = {
        name: {kind: Path(f"{files[kind]}.theirs") for kind in QUANTIZED}
        for name, files in converted.items()
    }
    llama_tools.quantize_many((converted[name]["BF16"], theirs[name]) for name in NAMES)
    for name in NAMES:
        for kind in QUANTIZED:
            ours = {tensor.name: tensor for tensor in GGUFReader(converted[name][kind]).tensors}
            expected = GGUFReader(theirs[name][kind]).tensors
            assert sum(".nextn." in tensor.name for tensor in expected) == 4
            assert len(ours) == len(expected)
            for tensor in expected:
                assert ours[tensor.name].tensor_type == tensor.tensor_type, (name, tensor.name)
                assert ours[tensor.name].data.tobytes() == tensor.data.tobytes(), tensor.name


def test_the_files_draft_for_themselves(
    converted: dict[str, dict[str, Path]], tmp_path: Path
) -> None:
    able = {name: can_draft_itself(read_header(converted[name]["Q8_0"])) for name in NAMES}
    # Qwen3-Next's state cannot be taken back (`protocol/kept_states.py`)
    assert able == {"qwen35": True, "qwen35_moe": True, "qwen3_next": False}
    prompts = tmp_path / "prompts.json"
    prompts.write_text(json.dumps(PROMPTS[:4]))
    model = converted["qwen35_moe"]["BF16"]
    report = report_of("own_heads_equality", model, prompts, 24, "f16")
    assert report["gaps"] == []
    assert report["rows"] == report["expected_rows"]
    assert 10 < report["num_accepted"] < report["num_drafted"]


def test_without_the_flag_they_are_left_out_with_a_note(
    converted: dict[str, dict[str, Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = with_heads("qwen35", tmp_path / "source")
    assert main(["plan", str(source), "--types", "F32", "--json"]) == 0
    left = json.loads(capsys.readouterr().out)
    assert any("--mtp writes it too" in note for note in left["notes"])
    assert main(["plan", str(source), "--types", "F32", "--json", "--mtp"]) == 0
    whole = json.loads(capsys.readouterr().out)
    assert not any("--mtp" in note for note in whole["notes"])
    assert whole["files"][0]["bytes"] == converted["qwen35"]["F32"].stat().st_size
    assert left["files"][0]["bytes"] < whole["files"][0]["bytes"]


def test_whoever_has_none_is_told_so(tmp_path: Path) -> None:
    def job(source: Path) -> Job:
        return Job(
            source=source, directory=tmp_path, name="m", types=("F32",), num_threads=1, drafts=True
        )

    other = write_checkpoint(tmp_path / "llama", Shape())
    with pytest.raises(UnsupportedModel, match="only those of Qwen3-Next and"):
        convert(job(other))
    without = golden_checkpoint("qwen3_next", tmp_path / "without")
    with pytest.raises(UnsupportedModel, match="has no layer that drafts"):
        convert(job(without))
    several = with_heads("qwen35", tmp_path / "several")
    change_config(several, lambda config: config["text_config"].update(mtp_num_hidden_layers=2))
    with pytest.raises(UnsupportedModel, match="mtp_num_hidden_layers = 2"):
        convert(job(several))

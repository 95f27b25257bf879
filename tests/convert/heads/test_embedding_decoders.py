"""Decoders that were trained to embed (Qwen3-Embedding, E5-Mistral): pooled as saved,
ended as their tokenizer ends texts, and equal to what transformers computes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader, PoolingType
from numpy.typing import NDArray

from convert.__main__ import main
from convert.errors import MissingFile, UnsupportedModel
from convert.pipeline import Job, convert
from tests.convert import llama_tools
from tests.convert.checkpoints import GOLDEN, change_config, golden_checkpoint, rename_tensors
from tests.convert.heads.saved import (
    APPENDED,
    OLD_END,
    append_token,
    embedding_model,
    lose_head,
    save_modules,
)


def convert_to_f32(source: Path) -> Path:
    out = source.parent / "out"
    job = Job(source=source, directory=out, name="model", types=("F32",), num_threads=1)
    return convert(job)[0].path


def fields(path: Path) -> dict[str, Any]:
    return {key: field.contents() for key, field in GGUFReader(path).fields.items()}


def notes(source: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert main(["plan", str(source), "--types", "F32", "--json"]) == 0
    found: list[str] = json.loads(capsys.readouterr().out)["notes"]
    return found


def reference(name: str) -> dict[str, NDArray[Any]]:
    return dict(np.load(GOLDEN / name / "reference.npz"))


def assert_same(actual: NDArray[Any], expected: NDArray[Any]) -> None:
    cosine = np.dot(actual, expected) / np.linalg.norm(actual) / np.linalg.norm(expected)
    assert 1 - cosine < 1e-6
    np.testing.assert_allclose(actual, expected, atol=5e-3)


@pytest.mark.parametrize("has_head", [True, False])
def test_embeddings_are_those_of_transformers(has_head: bool, tmp_path: Path) -> None:
    source = embedding_model(tmp_path / "qwen3")
    if not has_head:
        lose_head(source)
    path = convert_to_f32(source)
    expected = reference("qwen3")
    assert_same(llama_tools.embedding(path, expected["tokens"]), expected["last"])
    assert "output.weight" not in {tensor.name for tensor in GGUFReader(path).tensors}


def test_the_appended_token_is_the_end_and_the_old_end_ends_a_turn(tmp_path: Path) -> None:
    found = fields(convert_to_f32(embedding_model(tmp_path / "qwen3")))
    assert found["qwen3.pooling_type"] == PoolingType.LAST
    assert found["tokenizer.ggml.eos_token_id"] == APPENDED
    assert found["tokenizer.ggml.eot_token_id"] == OLD_END
    assert found["tokenizer.ggml.add_eos_token"] is True
    assert found["tokenizer.ggml.add_bos_token"] is False


@pytest.mark.parametrize("flags", [{}, {"add_bos_token": False}])
def test_the_vocabulary_is_verified_with_what_is_appended(
    flags: dict[str, bool], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = embedding_model(tmp_path / "qwen3")
    config = {"eos_token": "<|end|>", **flags}
    (source / "tokenizer_config.json").write_text(json.dumps(config))
    out = tmp_path / "out"
    assert main([str(source), "--out", str(out), "--types", "Q8_0", "--json"]) == 0
    done = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (done["verified"], done["notes"]) == (True, [])


def test_files_that_contradict_each_other_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = embedding_model(tmp_path / "qwen3")
    config = {"eos_token": "<|end|>", "add_eos_token": False}
    (source / "tokenizer_config.json").write_text(json.dumps(config))
    (note,) = notes(source, capsys)
    assert "tokenizer.json appends '<|endoftext|>' to every text" in note


def test_a_model_that_writes_text_ends_texts_as_its_tokenizer_does(tmp_path: Path) -> None:
    source = golden_checkpoint("qwen3", tmp_path / "qwen3")
    append_token(source)
    found = fields(convert_to_f32(source))
    assert "qwen3.pooling_type" not in found
    assert found["tokenizer.ggml.eos_token_id"] == APPENDED
    assert found["tokenizer.ggml.eot_token_id"] == OLD_END


def test_attention_in_both_directions(tmp_path: Path) -> None:
    """Such as gte-Qwen2."""
    source = embedding_model(tmp_path / "qwen2", "mean", "qwen2")
    change_config(source, lambda config: config.update(is_causal=False))
    path = convert_to_f32(source)
    assert fields(path)["qwen2.attention.causal"] is False
    expected = reference("qwen2")
    actual = llama_tools.embedding(path, expected["tokens"])
    assert_same(actual, expected["mean_both_ways"])


@pytest.mark.parametrize("family", ["qwen3", "qwen2", "mistral", "llama2"])
def test_a_bare_model_is_taken_where_it_is_pooled(family: str, tmp_path: Path) -> None:
    source = golden_checkpoint(family, tmp_path / family)
    name = {"qwen3": "Qwen3", "qwen2": "Qwen2", "mistral": "Mistral", "llama2": "Llama"}[family]
    change_config(source, lambda config: config.update(architectures=[f"{name}Model"]))
    with pytest.raises(UnsupportedModel, match=rf"{name}Model, a model without a head.*1_Pooling"):
        convert_to_f32(source)
    if family != "llama2":  # of F16
        rename_tensors(source, lambda tensor: tensor.removeprefix("model."))
    save_modules(source, "lasttoken", "Transformer", "Pooling")
    convert_to_f32(source)


def test_a_model_that_reads_both_ways_writes_no_text(tmp_path: Path) -> None:
    source = golden_checkpoint("qwen2", tmp_path / "qwen2")
    change_config(source, lambda config: config.update(is_causal=False))
    with pytest.raises(UnsupportedModel, match="reads in both directions"):
        convert_to_f32(source)


def test_pooling_that_is_listed_but_absent(tmp_path: Path) -> None:
    source = embedding_model(tmp_path / "qwen3")
    (source / "1_Pooling" / "config.json").unlink()
    with pytest.raises(
        MissingFile, match=r"1_Pooling/config\.json is missing, which modules\.json"
    ):
        convert_to_f32(source)


def test_small_letters_are_told_where_the_tokenizer_keeps_capitals(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for source in (
        embedding_model(tmp_path / "qwen3"),
        golden_checkpoint("bert", tmp_path / "bert"),
    ):
        (source / "sentence_bert_config.json").write_text('{"do_lower_case": true}')
        told = any("small letters" in note for note in notes(source, capsys))
        assert told == (source.name == "qwen3")


@pytest.mark.parametrize("default", [None, "query"])
def test_prompts_are_told(
    default: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = embedding_model(tmp_path / "qwen3")
    prompts = {"query": "Instruct: find\nQuery:", "document": ""}
    settings = {"prompts": prompts, "default_prompt_name": default}
    (source / "config_sentence_transformers.json").write_text(json.dumps(settings))
    (note,) = notes(source, capsys)
    assert r"in front of its texts: query = 'Instruct: find\nQuery:'. " in note
    assert ("adds 'query' to every text" in note) == (default is not None)
    found = fields(convert_to_f32(source))
    assert found["sentence_transformers.prompt.query"] == "Instruct: find\nQuery:"
    assert "sentence_transformers.prompt.document" not in found

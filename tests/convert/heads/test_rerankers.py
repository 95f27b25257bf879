"""Qwen3-Reranker: the two rows of its output that say yes and no are its classifier, and
its scores are those of the whole model.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader, PoolingType

from convert.__main__ import main
from convert.heads.ranking import TEMPLATE
from convert.pipeline import Job, convert
from tests.convert import llama_tools
from tests.convert.checkpoints import GOLDEN, change_config, golden_checkpoint, read_safetensors
from tests.convert.heads.saved import CARD, change_tokenizer, lose_head, reranker, save_modules

YES, NO = 259, 260


def convert_to_f32(source: Path) -> Path:
    out = source.parent / "out"
    job = Job(source=source, directory=out, name="model", types=("F32",), num_threads=1)
    return convert(job)[0].path


def notes(source: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert main(["plan", str(source), "--types", "F32", "--json"]) == 0
    found: list[str] = json.loads(capsys.readouterr().out)["notes"]
    return found


def pooling(path: Path) -> Any:
    field = GGUFReader(path).fields.get("qwen3.pooling_type")
    return None if field is None else field.contents()


def test_scores_are_those_of_transformers(tmp_path: Path) -> None:
    path = convert_to_f32(reranker(tmp_path / "tiny"))
    reference = dict(np.load(GOLDEN / "qwen3" / "reference.npz"))
    logits = reference["log_probs"][-1].astype(np.float64)
    expected = np.exp(logits[YES]) / (np.exp(logits[YES]) + np.exp(logits[NO]))
    actual = llama_tools.embedding(path, reference["tokens"])[:2]
    np.testing.assert_allclose(actual, [expected, 1 - expected], atol=1e-3)
    assert 0.01 < expected < 0.45, "or the test would show little"


@pytest.mark.parametrize("tied", [False, True])
def test_what_is_written(tied: bool, tmp_path: Path) -> None:
    source = reranker(tmp_path / "tiny")
    rows = read_safetensors(source / "model.safetensors")["lm_head.weight"]
    if tied:
        lose_head(source)
        change_config(source, lambda config: config.update(tie_word_embeddings=True))
        rows = read_safetensors(source / "model.safetensors")["model.embed_tokens.weight"]
    reader = GGUFReader(convert_to_f32(source))
    found = {key: field.contents() for key, field in reader.fields.items()}
    tensors = {tensor.name: tensor.data for tensor in reader.tensors}
    assert found["qwen3.pooling_type"] == PoolingType.RANK
    assert found["qwen3.classifier.output_labels"] == ["yes", "no"]
    assert found["tokenizer.chat_template.rerank"] == TEMPLATE
    assert found["tokenizer.chat_templates"] == ["rerank"]
    assert "output.weight" not in tensors
    np.testing.assert_array_equal(tensors["cls.output.weight"], rows[[YES, NO]])


def name_config(source: Path) -> None:
    (source / "README.md").unlink()
    change_config(source, lambda config: config.update(_name_or_path="Qwen/Qwen3-Reranker-0.6B"))


def name_folder(source: Path) -> None:
    (source / "README.md").unlink()


def title_card(source: Path) -> None:
    (source / "README.md").write_text("---\nlicense: mit\n---\n# Qwen3-Reranker-4B\n")


def list_modules(source: Path) -> None:
    save_modules(source, "", "Transformer", "LogitScore")
    settings = {"true_token_id": YES, "false_token_id": NO}
    (source / "1_LogitScore" / "config.json").write_text(json.dumps(settings))


@pytest.mark.parametrize("change", [name_config, name_folder, title_card, list_modules])
def test_how_a_reranker_is_recognized(change: Callable[[Path], None], tmp_path: Path) -> None:
    source = reranker(tmp_path / ("Qwen3-Reranker-x" if change is name_folder else "tiny"))
    change(source)
    assert pooling(convert_to_f32(source)) == PoolingType.RANK


def test_a_reranker_without_its_words_gets_a_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = reranker(tmp_path / "tiny")
    tokenizer = json.loads((source / "tokenizer.json").read_text())
    model = tokenizer["model"]
    vocab = {("YES" if text == "yes" else text): i for text, i in model["vocab"].items()}
    change_tokenizer(source, model={**model, "vocab": vocab, "merges": model["merges"][:2]})
    (note,) = notes(source, capsys)
    assert "has not both of the tokens 'yes' and 'no'" in note
    assert pooling(convert_to_f32(source)) is None


@pytest.mark.parametrize("card", [CARD, "---\npipeline_tag: text-ranking\n---\n"])
def test_other_rerankers_get_a_note(
    card: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = golden_checkpoint("qwen2", tmp_path / "qwen2")
    (source / "README.md").write_text(card)
    (note,) = (note for note in notes(source, capsys) if "rank" in note)
    assert "writes text and does not rank documents" in note


def test_scores_of_an_unknown_prompt_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = reranker(tmp_path / "tiny", card="")
    list_modules(source)
    assert main(["plan", str(source)]) == 2
    assert "is a reranker of a kind that llama.cpp does not compute" in capsys.readouterr().err

"""XLM-RoBERTa with its Unigram tokenizer: embeddings and scores are those of transformers,
and texts become the tokens that its own tokenizer makes of them.
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
from convert.errors import DamagedCheckpoint, UnsupportedModel
from convert.pipeline import Job, convert
from tests.convert import llama_tools
from tests.convert.checkpoints import (
    change_config,
    golden_checkpoint,
    golden_folder,
    read_safetensors,
    write_safetensors,
)

MAX_DIFFERENCE = 2e-4  # ggml's GELU is a table of float16
REFERENCE = dict(np.load(golden_folder("xlm_roberta") / "reference.npz"))


def ranker(directory: Path) -> Path:
    return golden_checkpoint("xlm_roberta", directory)


def embedder(directory: Path) -> Path:
    """The same without its head, as sentence-transformers saves a model."""
    source = ranker(directory)
    change_config(source, lambda config: config.update(architectures=["XLMRobertaModel"]))
    path = source / "model.safetensors"
    tensors = read_safetensors(path)
    kept = {name: t for name, t in tensors.items() if not name.startswith("classifier.")}
    write_safetensors(path, {name.removeprefix("roberta."): t for name, t in kept.items()}, "BF16")
    (source / "1_Pooling").mkdir()
    pooling = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (source / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return source


def converted(source: Path, out: Path) -> Path:
    """With its tokenizer compared, as `appliance-convert` does it."""
    command = [str(source), "--out", str(out), "--name", "m", "--types", "F32", "--threads", "1"]
    assert main(command) == 0
    return out / "m-F32.gguf"


def test_embeddings_are_those_of_transformers(tmp_path: Path) -> None:
    model = converted(embedder(tmp_path / "source"), tmp_path)
    reader = GGUFReader(model)
    assert reader.fields["bert.pooling_type"].contents() == PoolingType.CLS.value
    assert reader.fields["bert.context_length"].contents() == 64
    for pooling, of in (("MEAN", "mean"), (None, "cls")):
        actual = llama_tools.embedding(model, REFERENCE["tokens"], pooling)
        np.testing.assert_allclose(actual, REFERENCE[of], atol=MAX_DIFFERENCE)


def test_scores_are_those_of_transformers(tmp_path: Path) -> None:
    model = converted(ranker(tmp_path / "source"), tmp_path)
    score = llama_tools.embedding(model, REFERENCE["tokens"])[0]
    assert score == pytest.approx(REFERENCE["score"][0], abs=MAX_DIFFERENCE)
    described = llama_tools.describe(model)
    assert (described["bos"], described["eos"], described["add_bos"]) == (0, 2, True)
    assert GGUFReader(model).fields["tokenizer.ggml.add_sep_token"].contents() is True


def change_tokenizer(source: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = source / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    change(tokenizer)
    path.write_text(json.dumps(tokenizer))


REFUSED: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "bytes": (lambda t: t["model"].update(byte_fallback=True), "byte_fallback"),
    "no unknown": (lambda t: t["model"].update(unk_id=None), "unk_id is None"),
    "another normalizer": (lambda t: t.update(normalizer={"type": "Lowercase"}), "Lowercase"),
    "no space in front": (
        lambda t: t.update(
            pre_tokenizer={"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never"}
        ),
        "space in front of every text",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_tokenizers_that_llama_cpp_would_not_follow_are_refused(name: str, tmp_path: Path) -> None:
    source, (change, reason) = ranker(tmp_path / "source"), REFUSED[name]
    change_tokenizer(source, change)
    job = Job(source=source, directory=tmp_path, name="m", types=("F32",), num_threads=1)
    with pytest.raises(UnsupportedModel, match=reason):
        convert(job)


def test_damaged_ones_are_told(tmp_path: Path) -> None:
    source = ranker(tmp_path / "source")
    job = Job(source=source, directory=tmp_path, name="m", types=("F32",), num_threads=1)
    change_tokenizer(source, lambda t: t["normalizer"].update(precompiled_charsmap="?"))
    with pytest.raises(DamagedCheckpoint, match="malformed precompiled_charsmap"):
        convert(job)
    change_tokenizer(source, lambda t: t["model"]["vocab"].append(["x", None]))
    with pytest.raises(DamagedCheckpoint, match="malformed token"):
        convert(job)


CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "classes": ({"id2label": {"0": "no", "1": "yes"}}, "has 2 labels"),
    "two types": ({"architectures": ["BertForSequenceClassification"]}, "the first type"),
    "adapters": ({"lora_adaptations": ["retrieval.query"]}, "jina-embeddings-v3"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_models_that_llama_cpp_would_not_compute_are_refused(name: str, tmp_path: Path) -> None:
    source, (changes, reason) = ranker(tmp_path / "source"), CONFIGS[name]
    change_config(source, lambda config: config.update(changes))
    job = Job(source=source, directory=tmp_path, name="m", types=("F32",), num_threads=1)
    with pytest.raises(UnsupportedModel, match=reason):
        convert(job)

"""Embedding models as sentence-transformers saves them: pooling in both spellings, and
modules that a GGUF could not hold.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader, PoolingType

from convert.architectures import find_family
from convert.config import Config
from convert.errors import DamagedCheckpoint, MissingFile, UnsupportedModel
from convert.heads.purpose import find_purpose
from convert.pipeline import Job, convert
from convert.source.card import read_card
from tests.convert.checkpoints import golden_checkpoint


def save_pooling(source: Path, settings: dict[str, Any]) -> None:
    (source / "1_Pooling").mkdir()
    (source / "1_Pooling" / "config.json").write_text(json.dumps(settings))


def save_modules(source: Path, *types: str) -> None:
    entries = [
        {"idx": index, "name": str(index), "path": f"{index}_{kind.rpartition('.')[2]}"}
        | {"type": kind}
        for index, kind in enumerate(types)
    ]
    (source / "modules.json").write_text(json.dumps(entries))


def pooling_of(source: Path, out: Path) -> PoolingType:
    job = Job(source=source, directory=out, name="model", types=("F32",), num_threads=1)
    reader = GGUFReader(convert(job)[0].path)
    return PoolingType(reader.fields["bert.pooling_type"].contents())


@pytest.mark.parametrize(
    ("settings", "pooling"),
    [
        ({"embedding_dimension": 64, "pooling_mode": "mean"}, PoolingType.MEAN),
        ({"embedding_dimension": 64, "pooling_mode": "cls"}, PoolingType.CLS),
        ({"embedding_dimension": 64, "pooling_mode": "lasttoken"}, PoolingType.LAST),
        ({"embedding_dimension": 64, "pooling_mode": ["mean"]}, PoolingType.MEAN),
        (
            {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True},
            PoolingType.MEAN,
        ),
    ],
)
def test_pooling_in_both_spellings(
    settings: dict[str, Any], pooling: PoolingType, tmp_path: Path
) -> None:
    source = golden_checkpoint("bert", tmp_path / "bert")
    save_pooling(source, settings)
    assert pooling_of(source, tmp_path) is pooling


@pytest.mark.parametrize(
    "settings",
    [
        {"pooling_mode": "max"},
        {"pooling_mode": ["cls", "mean"]},
        {"pooling_mode": 5},
        {"pooling_mode_max_tokens": True},
        {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True},
        {"pooling_mode_mean_tokens": False},
    ],
)
def test_pooling_that_llama_cpp_does_not_have_is_refused(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    source = golden_checkpoint("bert", tmp_path / "bert")
    save_pooling(source, settings)
    with pytest.raises(UnsupportedModel, match=r"1_Pooling/config\.json must select exactly one"):
        pooling_of(source, tmp_path)


@pytest.mark.parametrize("package", ["models", "base.modules"])
def test_modules_that_a_gguf_holds_pass_in_either_package(package: str, tmp_path: Path) -> None:
    source = golden_checkpoint("bert", tmp_path / "bert")
    save_pooling(source, {"pooling_mode": "cls"})
    names = ("Transformer", "Pooling", "Normalize")
    save_modules(source, *(f"sentence_transformers.{package}.{name}" for name in names))
    assert pooling_of(source, tmp_path) is PoolingType.CLS


@pytest.mark.parametrize(("family", "module"), [("bert", "Dense"), ("qwen3", "LayerNorm")])
def test_a_module_after_pooling_is_refused_by_name(
    family: str, module: str, tmp_path: Path
) -> None:
    source = golden_checkpoint(family, tmp_path / family)
    save_pooling(source, {"pooling_mode": "mean"})
    names = ("Transformer", "Pooling", module, "Normalize")
    save_modules(source, *(f"sentence_transformers.models.{name}" for name in names))
    with pytest.raises(UnsupportedModel, match=rf"a {module} module \(modules\.json\)"):
        pooling_of(source, tmp_path)


def test_a_dense_folder_is_seen_without_a_list_of_modules(tmp_path: Path) -> None:
    source = golden_checkpoint("bert", tmp_path / "bert")
    save_pooling(source, {"pooling_mode": "mean"})
    (source / "2_Dense").mkdir()
    with pytest.raises(UnsupportedModel, match="a Dense module"):
        pooling_of(source, tmp_path)


@pytest.mark.parametrize("written", ['["Dense"]', "{}", "[]"])
def test_a_list_of_modules_that_is_none(written: str, tmp_path: Path) -> None:
    source = golden_checkpoint("bert", tmp_path / "bert")
    (source / "modules.json").write_text(written)
    with pytest.raises(DamagedCheckpoint, match=r"modules\.json is not a list of modules"):
        pooling_of(source, tmp_path)


def test_an_encoder_whose_pooling_nothing_says_is_told_of(tmp_path: Path) -> None:
    source = golden_checkpoint("bert", tmp_path / "bert")
    config = Config("config.json", json.loads((source / "config.json").read_text()))

    def notes() -> tuple[str, ...]:
        return find_purpose(source, find_family(config), config, read_card(source)).notes

    (note,) = notes()
    assert "modules.json and 1_Pooling/config.json" in note
    save_pooling(source, {"pooling_mode": "cls"})
    assert notes() == ()


def spoil_dense(source: Path, **changes: Any) -> None:
    path = source / "3_Dense" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"bias": True}, "a bias or an activation"),
        ({"activation_function": "torch.nn.modules.activation.Tanh"}, r"an activation \(Tanh\)"),
        ({"out_features": 32}, "needs to begin and to end with the 64 of the model"),
        ({"in_features": 64}, "make 96 numbers of 64 and 64 of 64"),
    ],
)
def test_dense_modules_that_llama_cpp_would_compute_otherwise(
    changes: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    source = golden_checkpoint("embedding_gemma", tmp_path / "gemma")
    spoil_dense(source, **changes)
    with pytest.raises(UnsupportedModel, match=reason):
        pooling_of(source, tmp_path)


def test_a_dense_module_without_its_own_matrix(tmp_path: Path) -> None:
    source = golden_checkpoint("embedding_gemma", tmp_path / "gemma")
    (source / "3_Dense" / "model.safetensors").unlink()
    with pytest.raises(MissingFile, match=r"3_Dense/model\.safetensors"):
        pooling_of(source, tmp_path)
    shutil.copy(source / "2_Dense" / "model.safetensors", source / "3_Dense")
    with pytest.raises(DamagedCheckpoint, match=r"linear\.weight of the shape \[64, 96\] alone"):
        pooling_of(source, tmp_path)


def test_one_dense_module_is_one_too_few(tmp_path: Path) -> None:
    source = golden_checkpoint("embedding_gemma", tmp_path / "gemma")
    names = ("Transformer", "Pooling", "Dense", "Normalize")
    save_modules(source, *(f"sentence_transformers.models.{name}" for name in names))
    with pytest.raises(UnsupportedModel, match="1 Dense modules after pooling"):
        pooling_of(source, tmp_path)

"""Checkpoints that were saved while the model was wrapped in something."""

from __future__ import annotations

from pathlib import Path

import pytest

from convert.__main__ import main
from convert.architectures.wrappers import unwrapped
from convert.errors import UnsupportedModel
from convert.pipeline import Job, convert
from tests.convert.checkpoints import Shape, golden_checkpoint, rename_tensors, write_checkpoint


def content(source: Path) -> bytes:
    job = Job(
        source=source, directory=source.parent / "out", name="m", types=("Q8_0",), num_threads=1
    )
    return convert(job)[0].path.read_bytes()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "_orig_mod."),
        ("", "module."),
        ("", "base_model.model."),
        ("", "module._orig_mod."),
        ("", "_orig_mod.module."),
        ("", "_forward_module._orig_mod.module."),
        ("", "base_model.model._orig_mod."),
        ("model.", "model.language_model."),
        ("model.", "language_model.model."),
        ("model.", "model.language_model.model."),
        ("model.", "model._orig_mod."),
        ("model.", "module.model.language_model."),
        ("model.layers.0.", "model.layers.0._fsdp_wrapped_module._checkpoint_wrapped_module."),
        ("lm_head.", "language_model.lm_head."),
    ],
)
@pytest.mark.parametrize("tied", [True, False])
def test_names_are_read_without_their_wrappers(
    before: str, after: str, tied: bool, tmp_path: Path
) -> None:
    source = write_checkpoint(tmp_path / "source", Shape(tied=tied, num_layers=2))
    plain = content(source)
    rename_tensors(
        source,
        lambda name: after + name.removeprefix(before) if name.startswith(before) else name,
    )
    assert content(source) == plain


def test_an_encoder_is_unwrapped_too(tmp_path: Path) -> None:
    source = golden_checkpoint("bert", tmp_path / "bert")
    plain = content(source)
    rename_tensors(source, lambda name: f"0.auto_model.{name}")
    assert content(source) == plain


@pytest.mark.parametrize(
    "name",
    [
        "base_model.model.model.layers.0.self_attn.q_proj.base_layer.weight",
        "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",
        "model.layers.0.self_attn.q_proj.lora_B.default.weight",
        "base_model.model.lm_head.modules_to_save.default.weight",
    ],
)
def test_an_adapter_that_was_not_merged_is_named(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_checkpoint(tmp_path / "source", Shape())
    old = "model.layers.0.self_attn.q_proj.weight"
    rename_tensors(source, lambda stored: name if stored == old else stored)
    assert main([str(source), "--out", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert f"an adapter that was not merged into its model ({name})" in message
    assert "merge_and_unload" in message


def test_two_names_for_one_tensor_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_checkpoint(tmp_path / "source", Shape())
    names = {"model.norm.weight": "module.model.layers.0.input_layernorm.weight"}
    rename_tensors(source, lambda name: names.get(name, name))
    assert main([str(source), "--out", str(tmp_path / "out")]) == 2
    assert "contains model.layers.0.input_layernorm.weight twice" in capsys.readouterr().err


def test_no_wrapper_is_no_change() -> None:
    assert unwrapped({}) == {}
    with pytest.raises(UnsupportedModel):
        unwrapped({"a.lora_embedding_A": None})  # type: ignore[dict-item]

"""What is given as a checkpoint and is none says what it is; what is one gets its family
and its name.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from convert.__main__ import main
from convert.architectures import find_family
from convert.config import Config
from convert.errors import UnsupportedModel
from convert.source.folder import LFS_MARK
from tests.convert.checkpoints import Shape, change_config, write_checkpoint

POINTER = LFS_MARK + b"v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "source", Shape())


def refusal(source: Path | str, out: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert main([str(source), "--out", str(out)]) == 2
    assert not out.exists()
    return capsys.readouterr().err


def make_adapter(folder: Path) -> None:
    settings = {"base_model_name_or_path": "org/base", "peft_type": "LORA"}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    (folder / "adapter_model.safetensors").write_bytes(b"")


def make_anonymous_adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("[]")


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (make_adapter, ["is an adapter (LoRA) for org/base", "appliance-convert --lora"]),
        (make_anonymous_adapter, ["is an adapter (LoRA) for another model"]),
        (
            lambda folder: (folder / "a-Q8_0.gguf").write_bytes(b"GGUF"),
            ["contains GGUF files", "appliance serve ", "a-Q8_0.gguf"],
        ),
        (
            lambda folder: (folder / "consolidated.safetensors").write_bytes(b""),
            ["layout of the model's own software", "config.json and model*.safetensors"],
        ),
        (lambda folder: None, ["config.json is missing"]),
    ],
)
@pytest.mark.parametrize("has_config", [False, True])
def test_folders_with_something_else(
    make: Callable[[Path], object],
    parts: list[str],
    has_config: bool,
    source: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (source / "model.safetensors").unlink()
    if not has_config:
        (source / "config.json").unlink()
    elif parts == ["config.json is missing"]:
        parts = ["contains neither model.safetensors nor model.safetensors.index.json"]
    make(source)
    message = refusal(source, tmp_path / "out", capsys)
    for part in parts:
        assert part in message


def test_a_gguf_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("model.gguf", "blob"):
        (tmp_path / name).write_bytes(b"GGUF\3\0\0\0")
        message = refusal(tmp_path / name, tmp_path / "out", capsys)
        assert "is a GGUF file, which needs no conversion" in message
        assert f"appliance serve {tmp_path / name}" in message


def test_another_file(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = refusal(source / "model.safetensors", tmp_path / "out", capsys)
    assert "is a file. Pass the folder that contains it" in message


def test_the_name_of_a_model_in_the_cache(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`org/name` itself is read from the hub (tests/convert/hub)."""
    monkeypatch.chdir(tmp_path)
    name = "models--org--name-1.5B"
    message = refusal(name, tmp_path / "out", capsys)
    assert f"{name} is not a directory" in message
    assert "appliance pull org/name-1.5B" in message
    assert "hf download org/name-1.5B --local-dir name-1.5B" in message


def test_a_path_is_not_taken_for_a_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "Hugging Face" not in refusal(tmp_path / "nowhere", tmp_path / "out", capsys)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_pointer_of_git_lfs(
    name: str, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (source / name).write_bytes(POINTER)
    message = refusal(source, tmp_path / "out", capsys)
    assert f"{name} is only a Git LFS pointer" in message
    assert f"git -C {source} lfs pull" in message


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_web_page(
    name: str, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (source / name).write_text("\n<!DOCTYPE html><html><body>Sign in</body></html>")
    message = refusal(source, tmp_path / "out", capsys)
    assert f"{name} is a web page (HTML), not the file itself" in message


def make_cache(source: Path, revision: str = "0a1b" * 10) -> Path:
    """The folder of a repository in the Hugging Face cache, with `source` as its snapshot."""
    repository = source.parent / "models--org--Tiny--Model-1"
    blobs, snapshot = repository / "blobs", repository / "snapshots" / revision
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for index, path in enumerate(sorted(source.iterdir())):
        path.rename(blobs / f"hash{index}")
        (snapshot / path.name).symlink_to(Path("..") / ".." / "blobs" / f"hash{index}")
    return repository


def test_a_snapshot_is_named_after_its_repository(source: Path, tmp_path: Path) -> None:
    snapshot = next((make_cache(source) / "snapshots").iterdir())
    out = tmp_path / "out"
    assert main([str(snapshot), "--out", str(out), "--types", "Q8_0", "--no-verify"]) == 0
    assert [path.name for path in out.iterdir()] == ["Tiny--Model-1-Q8_0.gguf"]


def test_a_link_that_nobody_reads_does_not_matter(source: Path, tmp_path: Path) -> None:
    (source / "notes.txt").symlink_to("/etc/hostname")
    options = ["--types", "Q8_0", "--no-verify"]
    assert main([str(source), "--out", str(tmp_path / "out"), *options]) == 0
    (source / "vocab.txt").symlink_to("/etc/hostname")
    assert main([str(source), "--out", str(tmp_path / "out"), *options]) == 2


def test_a_folder_of_the_cache_says_which_snapshot(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = make_cache(source)
    snapshot = next((repository / "snapshots").iterdir())
    (repository / "snapshots" / "ffff").mkdir()
    both = refusal(repository, tmp_path / "out", capsys)
    assert f"Pass a snapshot in it: {snapshot} or {repository}/snapshots/ffff." in both
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(snapshot.name)
    assert f"Pass a snapshot in it: {snapshot}.\n" in refusal(repository, tmp_path / "out", capsys)


def test_a_checkpoint_in_a_folder_below_is_shown(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As trainers and older versions of sentence-transformers save it."""
    message = refusal(source.parent, tmp_path / "out", capsys)
    assert f"Pass the folder with the checkpoint in it: {source}." in message


def test_an_adapter_beside_a_model_is_told(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (source / "adapter_config.json").write_text("{}")
    assert main(["plan", str(source), "--types", "Q8_0"]) == 0
    assert "The folder also holds an adapter" in capsys.readouterr().err


def test_one_function_of_two_names(source: Path) -> None:
    change_config(source, lambda config: config.update(hidden_act="swish"))
    assert main(["plan", str(source), "--types", "Q8_0"]) == 0


def test_a_missing_head_says_what_it_may_be(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change_config(source, lambda config: config.update(tie_word_embeddings=False))
    message = refusal(source, tmp_path / "out", capsys)
    assert "set tie_word_embeddings to true in config.json" in message


# --- which family ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "family"),
    [
        ({"model_type": "qwen3"}, "qwen3"),
        ({"model_type": "gemma3_text", "architectures": None}, "gemma3"),
        ({"model_type": "bert", "architectures": []}, "bert"),
        ({"architectures": ["BertForPreTraining"]}, "bert"),
        ({"architectures": ["OwnLlama", "LlamaForCausalLM"], "model_type": "own"}, "llama"),
        ({"architectures": [5, "Phi3ForCausalLM"]}, "phi3"),
    ],
)
def test_the_family_of_a_config(values: dict[str, Any], family: str) -> None:
    assert find_family(Config("config.json", values)).name == family


@pytest.mark.parametrize(
    ("values", "named"),
    [
        # the same layers with another head: no chat model
        (
            {"architectures": ["LlamaForSequenceClassification"], "model_type": "llama"},
            "The architecture LlamaForSequenceClassification cannot",
        ),
        ({"model_type": "opt"}, "The model type opt cannot"),
        ({}, r"config\.json names no model class"),
        ({"model_type": ["llama"]}, r"config\.json names no model class"),
    ],
)
def test_a_family_that_is_not_known(values: dict[str, Any], named: str) -> None:
    with pytest.raises(UnsupportedModel, match=named):
        find_family(Config("config.json", values))


def lose_weights(source: Path) -> None:
    (source / "model.safetensors").rename(source / "pytorch_model.bin")


def quantize(source: Path) -> None:
    data = (source / "model.safetensors").read_bytes()
    (source / "model.safetensors").write_bytes(data.replace(b'"BF16"', b'"I16" '))
    change_config(source, lambda config: config.update(quantization_config={"quant_method": "x"}))


@pytest.mark.parametrize("spoil", [lose_weights, quantize])
def test_the_architecture_is_named_before_what_depends_on_it(
    spoil: Callable[[Path], None],
    source: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spoil(source)
    first = refusal(source, tmp_path / "out", capsys)
    assert "pickle" in first or "already quantized (x)" in first
    change_config(source, lambda config: config.update(architectures=["OPTForCausalLM"]))
    message = refusal(source, tmp_path / "out", capsys)
    assert "The architecture OPTForCausalLM cannot be converted yet" in message
    assert len(message) < 400

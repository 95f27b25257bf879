"""What is served by a path that is no model says what it is, and what to do with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.errors import BadModelFile
from appliance.store.catalog import load_catalog
from appliance.store.gguf_header import read_header
from appliance.store.models import ModelStore, prepare_files
from tests.store.samples import Sample, write_sample


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models", load_catalog())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "given").mkdir()
    return tmp_path / "given"


def prepare(store: ModelStore, path: Path) -> tuple[Path, ...]:
    return prepare_files(store.resolve(str(path)), None, lambda event: None)


def make_adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "org/b"}))
    (folder / "adapter_model.safetensors").write_bytes(b"")


def make_cache(folder: Path) -> None:
    (folder / "snapshots" / "0a1b").mkdir(parents=True)


def make_foreign(folder: Path) -> None:
    (folder / "consolidated.safetensors").write_bytes(b"")


def make_page(folder: Path) -> None:
    (folder / "config.json").write_text("<!doctype html>")


def make_pointer(folder: Path) -> None:
    (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (make_adapter, r"is an adapter \(LoRA\) for org/b.*--lora .*--base SRC.* --merge-lora "),
        (make_cache, r"a folder of the Hugging Face cache.*Pass a snapshot in it: .*/0a1b"),
        (make_foreign, r"layout of the model's own software \(consolidated"),
        (make_page, r"config\.json is a web page \(HTML\)"),
        (make_pointer, r"only a Git LFS pointer.*git -C .* lfs pull"),
        (lambda folder: None, r"is not a checkpoint: it has no config\.json"),
    ],
)
def test_a_folder_that_is_no_checkpoint(
    make: Callable[[Path], None], message: str, folder: Path, store: ModelStore
) -> None:
    make(folder)
    with pytest.raises(BadModelFile, match=message):
        prepare(store, folder)


def test_a_folder_with_one_model_is_served(folder: Path, store: ModelStore) -> None:
    path = write_sample(folder / "m-Q8_0.gguf", Sample())
    assert prepare(store, folder) == (path,)
    write_sample(folder / "other.gguf", Sample())
    with pytest.raises(BadModelFile, match=rf"contains 2 GGUF files.*appliance serve {path}"):
        prepare(store, folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "only a Git LFS pointer.*git lfs pull"),
        (b"<!DOCTYPE html><html>", r"a web page \(HTML\)"),
        (b"PK\3\4 of torch", "a ZIP archive or a PyTorch file"),
        (b"tjgg" + bytes(20), "a format older than GGUF"),
        (b"something", "does not begin with GGUF. Download"),
    ],
)
def test_a_file_that_is_no_gguf(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(BadModelFile, match=message):
        read_header(path)

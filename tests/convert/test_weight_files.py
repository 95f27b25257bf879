"""Weights as people have them: shards without an index, files under other names, buffers
saved along, and what a quantization left behind.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from convert.__main__ import main
from convert.errors import BadInput, DamagedCheckpoint, MissingFile, UnsupportedModel
from convert.pipeline import Job, convert
from tests.convert.checkpoints import Shape, change_config, random_tensors, write_checkpoint
from tests.convert.checkpoints import write_safetensors as write_tensors

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "source", Shape())


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "sharded", Shape(), num_shards=2)


def content(source: Path) -> bytes:
    out = source.parent / f"out of {source.name}"
    job = Job(source=source, directory=out, name="model", types=("Q8_0",), num_threads=1)
    return convert(job)[0].path.read_bytes()


def notes(source: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert main(["plan", str(source), "--types", "F32", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["notes"]
    assert isinstance(found, list)
    return found


def add_raw(path: Path, name: str, stored_type: str, shape: list[int], num_bytes: int) -> None:
    """A tensor of zeros of any type at the end of a safetensors file."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    end = len(data) - start
    header[name] = {"dtype": stored_type, "shape": shape, "data_offsets": [end, end + num_bytes]}
    encoded = json.dumps(header).encode()
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + data[start:] + bytes(num_bytes))


# --- which files ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["model-00001-of-00001.safetensors", "pytorch_model.safetensors", "weights.safetensors"]
)
def test_a_single_file_under_another_name(name: str, source: Path) -> None:
    expected = content(source)
    (source / SINGLE).rename(source / name)
    (source / "adapter_model.safetensors").write_bytes(b"of another kind")
    (source / "consolidated.safetensors").write_bytes(b"in another layout")
    assert content(source) == expected


def test_shards_without_an_index_are_one_set(source: Path, sharded: Path) -> None:
    (sharded / INDEX).unlink()
    assert content(sharded) == content(source)


def test_an_index_under_another_name(source: Path, sharded: Path) -> None:
    (sharded / INDEX).rename(sharded / "weights.safetensors.index.json")
    assert content(sharded) == content(source)


@pytest.mark.parametrize(("lost", "kept"), [(FIRST, SECOND), (SECOND, FIRST)])
def test_a_missing_shard_is_named_without_an_index(lost: str, kept: str, sharded: Path) -> None:
    (sharded / INDEX).unlink()
    (sharded / lost).unlink()
    with pytest.raises(MissingFile, match=rf"{lost} is missing: 1 of 2 files are there"):
        content(sharded)
    assert (sharded / kept).exists()


def test_files_of_which_none_says_what_it_is(source: Path) -> None:
    (source / SINGLE).rename(source / "one.safetensors")
    (source / "two.safetensors").write_bytes((source / "one.safetensors").read_bytes())
    with pytest.raises(UnsupportedModel, match=r"several .* \(one.safetensors, two.safetensors\)"):
        content(source)


def test_shards_of_two_sets_do_not_mix(source: Path, sharded: Path) -> None:
    (sharded / INDEX).unlink()
    (sharded / "model-00001-of-00001.safetensors").write_bytes((source / SINGLE).read_bytes())
    with pytest.raises(UnsupportedModel, match="several safetensors files"):
        content(sharded)


def test_a_tensor_in_two_shards(source: Path, sharded: Path) -> None:
    """Another one in the first shard than the index means is not taken."""
    whole = random_tensors(Shape())
    places = json.loads((sharded / INDEX).read_text())["weight_map"]
    name = next(name for name, shard in places.items() if shard == SECOND)
    first = {key: values for key, values in whole.items() if places[key] == FIRST}
    write_tensors(sharded / FIRST, {**first, name: whole[name] + 1}, "BF16")
    assert content(sharded) == content(source)
    (sharded / INDEX).unlink()
    with pytest.raises(DamagedCheckpoint, match=f"both contain the tensor {name}"):
        content(sharded)


def test_a_tied_head_that_only_the_index_knows(
    source: Path, sharded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = json.loads((sharded / INDEX).read_text())
    index["weight_map"]["lm_head.weight"] = SECOND
    (sharded / INDEX).write_text(json.dumps(index))
    assert content(sharded) == content(source)
    (note,) = notes(sharded, capsys)
    assert note.startswith("Left out because they are in none of the files")
    assert "lm_head.weight" in note
    change_config(sharded, lambda config: config.update(tie_word_embeddings=False))
    with pytest.raises(MissingFile, match=r"lm_head\.weight, which its config\.json requires"):
        content(sharded)


# --- what is in them ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "stored_type", "shape", "num_bytes"),
    [
        ("model.rope.cache", "F64", [3], 24),
        ("model.causal_mask", "BOOL", [2, 2], 4),
        ("model.layers.0.self_attn.bias", "BOOL", [2, 2], 4),
        ("model.layers.0.self_attn.masked_bias", "F32", [], 4),
        ("num_batches_tracked", "I64", [], 8),
        ("model.seen", "U8", [5], 5),
        ("model.nothing", "F32", [0], 0),
        ("model.empty.weight", "BF16", [0, 4], 0),
    ],
)
def test_buffers_are_left_out_with_a_note(
    name: str,
    stored_type: str,
    shape: list[int],
    num_bytes: int,
    source: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    expected = content(source)
    add_raw(source / SINGLE, name, stored_type, shape, num_bytes)
    assert content(source) == expected
    assert notes(source, capsys) == [f"Left out: 1 tensor without weights, the first being {name}."]


@pytest.mark.parametrize(
    ("name", "stored_type", "shape", "num_bytes"),
    [
        ("v_head.summary.weight", "F32", [1, 64], 256),
        ("v_head.summary.bias", "F64", [1], 8),
        ("logit_scale", "F32", [], 4),
        ("model.extra.weight", "I8", [4], 4),
    ],
)
def test_weights_without_a_place_are_refused_by_name(
    name: str, stored_type: str, shape: list[int], num_bytes: int, source: Path
) -> None:
    add_raw(source / SINGLE, name, stored_type, shape, num_bytes)
    with pytest.raises(UnsupportedModel, match=rf"1 tensor for which .* the first being {name}"):
        content(source)


@pytest.mark.parametrize(
    ("stored_type", "num_bytes"), [("F64", 512), ("F8_E4M3", 64), ("I64", 512)]
)
def test_weights_in_a_type_that_is_not_read(stored_type: str, num_bytes: int, source: Path) -> None:
    tensors = random_tensors(Shape())
    del tensors["model.norm.weight"]
    write_tensors(source / SINGLE, tensors, "BF16")
    add_raw(source / SINGLE, "model.norm.weight", stored_type, [64], num_bytes)
    with pytest.raises(UnsupportedModel, match=f"model.norm.weight as {stored_type}, but only F32"):
        content(source)


# --- quantized, or once meant to be ---------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "(bitsandbytes)"),
        ({}, "(without a method)"),
    ],
)
def test_what_is_left_of_a_quantization_is_a_note(
    settings: dict[str, object], named: str, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = content(source)
    change_config(source, lambda config: config.update(quantization_config=settings))
    assert content(source) == expected
    (note,) = notes(source, capsys)
    assert named in note
    assert "no weight is quantized" in note


def pack(source: Path) -> None:
    """As GPTQ does."""
    tensors = random_tensors(Shape())
    del tensors["model.layers.0.mlp.up_proj.weight"]
    write_tensors(source / SINGLE, tensors, "BF16")
    add_raw(source / SINGLE, "model.layers.0.mlp.up_proj.qweight", "I32", [8, 96], 8 * 96 * 4)


@pytest.mark.parametrize(("method", "prepare"), [("vptq", pack), ("bitnet", lambda source: None)])
def test_quantized_weights_are_refused(
    method: str, prepare: Callable[[Path], None], source: Path
) -> None:
    prepare(source)
    change_config(source, lambda c: c.update(quantization_config={"quant_method": method}))
    with pytest.raises(BadInput, match=rf"quantized .*{method}\)"):
        content(source)

"""Adapter files that llama.cpp would die of, or leave out in part, are refused by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader, GGUFWriter
from numpy.typing import NDArray

from appliance.errors import BadModelFile
from appliance.store.gguf_header import GgufHeader, read_header
from appliance.store.gguf_values import MetadataArray, Scalar
from appliance.store.tensors.adapter_files import read_adapter
from bench.memory_kinds import TINY, write_delta_net, write_with_heads
from tests.adapter_files import RANK, write_control_vector, write_lora, write_pairs
from tests.conftest import Embedded

Tensors = dict[str, NDArray[np.float32]]
WEIGHT = "blk.0.ffn_up.weight"


@pytest.fixture
def model(embedded: Embedded) -> Path:
    return embedded.files["Q8_0"]


def pair(
    name: str, columns: int, rows: int, rank: int = RANK, more: tuple[int, ...] = ()
) -> Tensors:
    return {
        f"{name}.lora_a": np.ones((*more, rank, columns), np.float32),
        f"{name}.lora_b": np.ones((*more, rows, rank), np.float32),
    }


def size_of(model: Path, name: str) -> tuple[int, int]:
    [tensor] = [t for t in GGUFReader(model).tensors if t.name == name]
    columns, rows = map(int, tensor.shape)
    return columns, rows


def test_what_fits_is_counted(model: Path, tmp_path: Path) -> None:
    lora = read_adapter(write_lora(tmp_path / "a.gguf", model, 1), [read_header(model)])
    columns, rows = size_of(model, WEIGHT)
    num_layers = read_header(model).integer("llama.block_count")
    assert not lora.is_control_vector
    assert lora.num_bytes > num_layers * 3 * 4 * RANK * (columns + rows)
    vector = read_adapter(write_control_vector(tmp_path / "v.gguf", model, 1), [read_header(model)])
    assert vector.is_control_vector
    assert sorted(vector.offsets) == [*range(1, num_layers)]
    for offset in vector.offsets.values():
        assert np.fromfile(tmp_path / "v.gguf", "<f4", columns, offset=offset).std() > 0.1


def test_heads_that_draft_are_adapted_by_nothing(model: Path, tmp_path: Path) -> None:
    plain = write_delta_net(model, tmp_path / "plain.gguf", TINY)
    with_heads = read_header(write_with_heads(model, tmp_path / "heads.gguf", TINY))
    num_layers = TINY.blocks
    vector = write_control_vector(tmp_path / "v.gguf", plain, 1)
    assert sorted(read_adapter(vector, [with_heads]).offsets) == [*range(1, num_layers)]
    lora = write_lora(tmp_path / "a.gguf", plain, 1)
    assert read_adapter(lora, [with_heads]).num_bytes > 0
    name = f"blk.{num_layers}.ffn_up.weight"
    own = write_pairs(tmp_path / "own.gguf", "qwen35", pair(name, TINY.width, TINY.ff))
    with pytest.raises(BadModelFile, match=f"adapts {name}, a part of the heads that draft"):
        read_adapter(own, [with_heads])
    longer = replace(with_heads, metadata={**with_heads.metadata})
    longer.metadata["qwen35.nextn_predict_layers"] = 2
    with pytest.raises(BadModelFile, match=r"the model's are 1 to 2\."):
        read_adapter(vector, [longer])


def lora_of(tensors: Callable[[Path], Tensors]) -> Callable[[Path, Path], Path]:
    return lambda path, model: write_pairs(path, "llama", tensors(model))


def of_another_architecture(path: Path, model: Path) -> Path:
    return write_pairs(path, "qwen2", pair(WEIGHT, *size_of(model, WEIGHT)))


def of_another_kind(path: Path, model: Path) -> Path:
    return write_pairs(path, "llama", pair(WEIGHT, *size_of(model, WEIGHT)), kind="ia3")


def with_alpha_of_64_bits(path: Path, model: Path) -> Path:
    writer = GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float64("adapter.lora.alpha", 4.0)
    for name, values in pair(WEIGHT, *size_of(model, WEIGHT)).items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def a_model(_path: Path, model: Path) -> Path:
    return model


def cut_short(path: Path, model: Path) -> Path:
    write_lora(path, model, 1)
    path.write_bytes(path.read_bytes()[:-64])
    return path


REFUSED: dict[str, tuple[Callable[[Path, Path], Path], str]] = {
    "architecture": (of_another_architecture, "for models of the architecture qwen2"),
    "kind": (of_another_kind, "an adapter of type 'ia3'"),
    "alpha": (with_alpha_of_64_bits, "adapter.lora.alpha is not a number of 32 bits"),
    "a model": (a_model, "is no adapter"),
    "cut short": (cut_short, "not a usable GGUF file"),
    "another shape": (lora_of(lambda _m: pair(WEIGHT, 8, 8)), "an adapter for another model"),
    "ranks that differ": (
        lora_of(
            lambda m: {
                **pair(WEIGHT, *size_of(m, WEIGHT)),
                f"{WEIGHT}.lora_b": pair(WEIGHT, *size_of(m, WEIGHT), rank=8)[f"{WEIGHT}.lora_b"],
            }
        ),
        "an adapter for another model",
    ),
    "experts": (
        lora_of(lambda m: pair(WEIGHT, *size_of(m, WEIGHT), more=(2,))),
        "an adapter for another model",
    ),
    "no such tensor": (
        lora_of(lambda _m: pair("blk.99.ffn_up.weight", 8, 8)),
        "which the model does not have",
    ),
    "half a pair": (
        lora_of(lambda m: dict([*pair(WEIGHT, *size_of(m, WEIGHT)).items()][:1])),
        "only one half of a pair",
    ),
    "a norm": (
        lora_of(lambda m: {"blk.0.attn_norm.weight": np.ones(8, np.float32)}),
        "which llama.cpp does not apply",
    ),
    "a norm's pair": (
        lora_of(lambda m: pair("blk.0.attn_norm.weight", 8, 1)),
        "which llama.cpp cannot do",
    ),
    "an embedding that is the output too": (
        lora_of(lambda m: pair("token_embd.weight", *size_of(m, "token_embd.weight"))),
        "which llama.cpp cannot do",
    ),
    "nothing": (lora_of(lambda m: {}), "adapts nothing"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused(name: str, model: Path, tmp_path: Path) -> None:
    write, words = REFUSED[name]
    path = write(tmp_path / "a.gguf", model)
    with pytest.raises(BadModelFile) as refused:
        read_adapter(path, [read_header(model)])
    assert words in str(refused.value)


def test_a_vector_of_another_model_is_refused(model: Path, tmp_path: Path) -> None:
    path = write_control_vector(tmp_path / "v.gguf", model, 1)
    header = read_header(model)
    smaller = {**header.metadata, "llama.embedding_length": 8}
    with pytest.raises(BadModelFile, match="F32 of 8 numbers"):
        read_adapter(path, [_with(header, smaller)])
    shallow = {**header.metadata, "llama.block_count": 2}
    with pytest.raises(BadModelFile, match="the model's are 1 to 1"):
        read_adapter(path, [_with(header, shallow)])


def _with(header: GgufHeader, metadata: dict[str, Scalar | MetadataArray]) -> GgufHeader:
    return replace(header, metadata=metadata)

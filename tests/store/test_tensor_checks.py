"""Tensors that would end llama.cpp are refused by their table, before native code sees them."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from appliance.errors import BadModelFile
from appliance.store.gguf_header import read_header
from appliance.store.tensors.checks import check_tensors

Type = gguf.GGMLQuantizationType


def table(path: Path, *tensors: tuple[str, tuple[int, ...], Type]) -> Path:
    """A file with these tensors, all zeros; shapes as NumPy has them, rows first."""
    writer = gguf.GGUFWriter(path, "llama")
    for name, shape, ggml_type in tensors:
        block, block_bytes = gguf.GGML_QUANT_SIZES[ggml_type]
        data = np.zeros((*shape[:-1], shape[-1] // block * block_bytes), np.uint8)
        writer.add_tensor(name, data, raw_dtype=ggml_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("ggml_type", [Type.I8, Type.I16, Type.I32, Type.I64, Type.F64, Type.Q8_K])
def test_formats_that_nothing_multiplies(ggml_type: Type, tmp_path: Path) -> None:
    path = table(tmp_path / "m.gguf", ("blk.0.ffn_up.weight", (4, 256), ggml_type))
    words = f"its tensor blk.0.ffn_up.weight is of type {ggml_type.name}, which weights cannot have"
    with pytest.raises(BadModelFile, match=words):
        check_tensors(read_header(path))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("output_norm.weight", (256,)),
        ("blk.0.attn_q_norm.weight", (4, 256)),
        ("blk.0.ffn_gate_exps.bias", (4, 256)),
        ("blk.0.ssm_d", (1, 256)),
    ],
)
@pytest.mark.parametrize("ggml_type", [Type.F16, Type.Q4_0])
def test_vectors_are_f32(
    name: str, shape: tuple[int, ...], ggml_type: Type, tmp_path: Path
) -> None:
    with pytest.raises(BadModelFile, match=f"{name} is of type {ggml_type.name}, but norms"):
        check_tensors(read_header(table(tmp_path / "bad.gguf", (name, shape, ggml_type))))
    check_tensors(read_header(table(tmp_path / "good.gguf", (name, shape, Type.F32))))


def test_attention_without_queries(tmp_path: Path) -> None:
    output = ("blk.3.attn_output.weight", (4, 32), Type.F32)
    with pytest.raises(
        BadModelFile, match=r"has blk\.3\.attn_output\.weight, and no blk\.3\.attn_q"
    ):
        check_tensors(read_header(table(tmp_path / "bad.gguf", output)))
    for name in ("attn_q.weight", "attn_qkv.weight", "attn_q_a.weight"):
        queries = (f"blk.3.{name}", (4, 32), Type.F16)
        check_tensors(read_header(table(tmp_path / f"{name}.gguf", output, queries)))


def test_a_table_of_whole_numbers_is_one(tmp_path: Path) -> None:
    tensor = ("blk.0.ffn_gate_tid2eid.weight", (4, 256), Type.I32)
    check_tensors(read_header(table(tmp_path / "m.gguf", tensor)))

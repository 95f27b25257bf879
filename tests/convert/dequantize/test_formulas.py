"""Schemes whose libraries cannot run here, by their formulas, one number after the other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf.quants import dequantize
from numpy.typing import NDArray

from convert.config import Config
from convert.dequantize.quantization import dequantized
from convert.dequantize.weight import QuantizedWeight
from convert.errors import DamagedCheckpoint, MissingFile, UnsupportedModel
from convert.safetensors_file import SafetensorsFile
from tests.convert.dequantize import packing

ROWS, ITEMS, GROUP = 12, 64, 32
MODELOPT = {"quant_method": "modelopt"}
Tensors = dict[str, NDArray[Any]]


def read(
    directory: Path,
    tensors: Mapping[str, NDArray[Any]],
    settings: Mapping[str, Any],
    texts: Mapping[str, str] | None = None,
) -> QuantizedWeight:
    path = directory / "model.safetensors"
    packing.write_tensors(path, {f"layer.{name}": part for name, part in tensors.items()})
    file = SafetensorsFile(path)
    file.texts.update(texts or {})
    found = dequantized(file.tensors, Config("config.json", dict(settings)))
    assert found is not None
    assert found.tensors.keys() == {"layer.weight"}
    weight = found.tensors["layer.weight"]
    assert isinstance(weight, QuantizedWeight)
    return weight


def whole(weight: QuantizedWeight) -> NDArray[np.float32]:
    values: NDArray[np.float32] = weight.read_rows(0, weight.num_rows)
    for start, stop in ((0, 1), (3, 8), (weight.num_rows - 1, weight.num_rows)):
        assert weight.read_rows(start, stop).tobytes() == values[start:stop].tobytes()
    return values


def numbers(low: int, high: int) -> NDArray[np.int8]:
    return np.random.default_rng(3).integers(low, high + 1, (ROWS, ITEMS)).astype(np.int8)


def halves(*shape: int) -> NDArray[np.float32]:
    """Numbers of F16."""
    values = np.random.default_rng(4).uniform(0.01, 0.02, shape)
    return values.astype(np.float16).astype(np.float32)


def spread(scales: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.repeat(scales, GROUP, axis=1)


# --- NVIDIA's Model Optimizer ---------------------------------------------------------


def modelopt_int4() -> tuple[Tensors, NDArray[np.float32]]:
    """A byte holds an even row's number in its lower four bits, the next row's in its upper."""
    codes, scales = numbers(-8, 7), halves(ROWS, ITEMS // GROUP)
    low, high = codes[::2].view(np.uint8) & 15, codes[1::2].view(np.uint8) & 15
    return {"weight": low | high << 4, "weight_scale": scales}, codes * spread(scales)


def test_int4_of_nvidias_is_kept(tmp_path: Path) -> None:
    tensors, expected = modelopt_int4()
    weight = read(tmp_path, tensors, {**MODELOPT, "quant_algo": "W4A16_AWQ"})
    assert whole(weight).tobytes() == expected.tobytes()
    assert weight.packs[0].name == "Q4_0"
    blocks = weight.read_packed(1, 6, weight.packs[0])
    assert np.ascontiguousarray(dequantize(blocks, weight.packs[0])).tobytes() == (
        expected[1:6].tobytes()
    )


def test_columns_are_multiplied_where_inputs_were_to_be(tmp_path: Path) -> None:
    tensors, expected = modelopt_int4()
    columns = np.linspace(0.5, 2, ITEMS, dtype=np.float32)
    weight = read(tmp_path, {**tensors, "pre_quant_scale": columns}, MODELOPT)
    assert whole(weight).tobytes() == (expected * columns).tobytes()
    assert not weight.packs


def test_int8_of_nvidias_has_a_scale_for_each_row(tmp_path: Path) -> None:
    codes, scales = numbers(-128, 127), halves(ROWS)
    tensors = {"weight": codes, "weight_scale": scales, "input_scale": np.float32([1])}
    weight = read(tmp_path, tensors, MODELOPT)
    assert whole(weight).tobytes() == (codes * scales[:, None]).tobytes()
    assert [name.name for name in weight.packs] == ["Q8_0"]


def test_mxfp8_of_nvidias_has_powers_of_two(tmp_path: Path) -> None:
    codes = numbers(0, 125).view(np.uint8)
    powers = np.random.default_rng(5).integers(110, 130, (ROWS, ITEMS // GROUP), dtype=np.uint8)
    weight = read(tmp_path, {"weight": codes.view("V1"), "weight_scale": powers}, MODELOPT)
    scales = spread(np.exp2(powers.astype(np.float32) - 127))
    assert whole(weight).tobytes() == (packing.e4m3_numbers()[codes] * scales).tobytes()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"weight_scale": None}, MissingFile, "layer.weight_scale"),
        ({"weight_scale": np.ones((5, 2), np.float32)}, DamagedCheckpoint, r"needs \[12, 2\]"),
        ({"weight_scale": np.ones((ROWS, 2), np.int32)}, UnsupportedModel, "U8 with scales of I32"),
        ({"svdquant_lora_a": np.ones((2, 2), np.float32)}, UnsupportedModel, "SVDQuant"),
    ],
)
def test_what_of_nvidias_cannot_be_read(
    changes: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    tensors = {**modelopt_int4()[0], **changes}
    with pytest.raises(error, match=message):
        read(tmp_path, {name: part for name, part in tensors.items() if part is not None}, MODELOPT)


# --- torchao's Int4Tensor -------------------------------------------------------------


def int4_tensor(zeros: NDArray[np.float32]) -> tuple[Tensors, NDArray[np.float32]]:
    """A byte holds an even column's number in its lower four bits; (groups, rows) of scales."""
    codes, scales = numbers(-8, 7), halves(ROWS, ITEMS // GROUP)
    octets = codes.view(np.uint8) & 15
    tensors: Tensors = {
        "_weight_qdata": (octets[:, ::2] | octets[:, 1::2] << 4).view(np.int8),
        "_weight_scale": np.ascontiguousarray(scales.T),
        "_weight_zero_point": np.ascontiguousarray(zeros.T),
    }
    return tensors, codes * spread(scales) + spread(zeros)


def torchao(directory: Path, tensors: Tensors, kind: str = "Int4Tensor") -> QuantizedWeight:
    texts = {"layer.weight": json.dumps({"_type": kind})}
    return read(directory, tensors, {"quant_method": "torchao"}, texts)


def test_a_zero_point_that_is_a_float(tmp_path: Path) -> None:
    tensors, expected = int4_tensor(halves(ROWS, ITEMS // GROUP) * 3)
    weight = torchao(tmp_path, tensors)
    assert whole(weight).tobytes() == expected.tobytes()
    assert not weight.packs


def test_without_zero_points_it_is_kept(tmp_path: Path) -> None:
    tensors, expected = int4_tensor(np.zeros((ROWS, ITEMS // GROUP), np.float32))
    weight = torchao(tmp_path, tensors)
    assert whole(weight).tolist() == expected.tolist()
    assert weight.packs[0].name == "Q4_0"
    blocks = weight.read_packed(0, ROWS, weight.packs[0])
    assert dequantize(blocks, weight.packs[0]).tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("kind", "why"),
    [("Int4TilePackedTo4dTensor", "a GPU's tensor cores"), ("NovelTensor", "not known here")],
)
def test_other_tensors_of_torchaos(kind: str, why: str, tmp_path: Path) -> None:
    tensors, _ = int4_tensor(np.zeros((ROWS, ITEMS // GROUP), np.float32))
    with pytest.raises(UnsupportedModel, match=f"torchao's {kind}, which cannot be read: .*{why}"):
        torchao(tmp_path, tensors, kind)


# --- others ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("marks", "message"),
    [(("a", "b"), r"own software \(a\)"), (("dequant_scale",), r"own software \(dequant_scale\)")],
)
def test_smoothquants_own_modules_are_refused(
    marks: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    tensors: Tensors = {"weight": numbers(-127, 127)}
    tensors |= {mark: np.array(np.float32(0.01)) for mark in marks}
    with pytest.raises(UnsupportedModel, match=f"{message}.*the scales of its inputs"):
        read(tmp_path, tensors, {})


@pytest.mark.parametrize("is_mixed", [True, False])
def test_quarks_int4_in_its_two_orders(is_mixed: bool, tmp_path: Path) -> None:
    codes, scales = numbers(-8, 7)[:8], halves(8, ITEMS // GROUP)
    order = [0, 2, 4, 6, 1, 3, 5, 7] if is_mixed else [*range(8)]
    tensors = {
        "weight": packing.words_of(codes.T[:, order], axis=1),
        "weight_scale": np.ascontiguousarray(scales.T),
    }
    spec = {"dtype": "int4", "qscheme": "per_group", "group_size": GROUP}
    settings = {
        "quant_method": "quark",
        "export": {"pack_method": "reorder" if is_mixed else "order"},
        "layer_quant_config": {"lay*": {"weight": spec}},
    }
    assert whole(read(tmp_path, tensors, settings)).tobytes() == (codes * spread(scales)).tobytes()


def test_quarks_int8_for_the_whole_and_for_each_row(tmp_path: Path) -> None:
    codes = numbers(-128, 127)
    for scale in (np.array(np.float32(0.5)), halves(ROWS)):
        spec = {"dtype": "int8", "qscheme": "per_channel" if scale.ndim else "per_tensor"}
        settings = {"quant_method": "quark", "global_quant_config": {"weight": spec}}
        weight = read(tmp_path, {"weight": codes, "weight_scale": scale}, settings)
        assert whole(weight).tobytes() == (codes * scale.reshape(-1, 1)).tobytes()


def test_bitnets_weights_that_are_not_packed(tmp_path: Path) -> None:
    """As `autobitlinear` may have them: floats that are -1, 0 and 1, times one number."""
    ternary, scale = numbers(-1, 1).astype(np.float32), np.array([0.4375], np.float32)
    tensors = {"weight": ternary, "weight_scale": scale}
    settings = {"quant_method": "bitnet", "linear_class": "autobitlinear"}
    assert whole(read(tmp_path, tensors, settings)).tolist() == (ternary * scale).tolist()
    with pytest.raises(UnsupportedModel, match="weight as F32, not as U8"):
        read(tmp_path, tensors, {"quant_method": "bitnet"})

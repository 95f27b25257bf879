"""Every scheme's weights are what its own library makes of the same tensors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from gguf.quants import dequantize

from convert.config import Config
from convert.dequantize.quantization import dequantized
from convert.dequantize.weight import QuantizedWeight
from convert.safetensors_file import SafetensorsFile, StoredTensor, as_stored, to_float32

GOLDEN = Path(__file__).parent / "golden"
NAMES = sorted(path.stem for path in GOLDEN.glob("*.safetensors"))
# What can be taken over, by golden; of all others nothing.
TYPES = {
    "awq": ["Q5_0", "Q8_0"],
    "bitnet": ["TQ2_0", "Q4_0", "Q4_K", "Q5_0", "Q6_K", "Q8_0"],
    "bitnet-auto": ["TQ2_0", "Q4_0", "Q4_K", "Q4_1", "Q5_0", "Q6_K", "Q8_0"],
    "compressed-int3": ["Q4_0", "Q4_1", "Q5_0", "Q8_0"],
    "compressed-int4": ["Q4_0", "Q4_1", "Q5_0", "Q8_0"],
    "compressed-int4-asymmetric": ["Q4_1", "Q5_0", "Q8_0"],
    "compressed-int8": ["Q8_0"],
    "compressed-int8-packed": ["Q8_0"],
    "compressed-mxfp4": ["MXFP4"],
    "compressed-nvfp4": ["NVFP4"],
    "gptq-2": ["Q4_0", "Q5_0", "Q8_0"],
    "gptq-3": ["Q4_0", "Q5_0", "Q8_0"],
    "gptq-4": ["Q4_0", "Q5_0", "Q8_0"],
    "gptq-4-asymmetric": ["Q5_0", "Q8_0"],
    "gptq-4-version-2": ["Q5_0", "Q8_0"],
    "gptq-8": ["Q8_0"],
    "mlx-2": ["Q4_1", "Q5_1"],
    "mlx-3": ["Q4_1", "Q5_1"],
    "mlx-4": ["Q4_1", "Q5_1"],
    "mlx-5": ["Q5_1"],
    "mxfp4": ["MXFP4"],
    "quark-int4": ["Q4_0", "Q4_1", "Q5_0", "Q8_0"],
    "quark-mxfp4": ["MXFP4"],
    "quark-uint4": ["Q4_1", "Q5_0", "Q8_0"],
    "torchao-int4": ["Q4_0", "Q4_1", "Q5_0", "Q8_0"],
    "torchao-int8": ["Q8_0"],
    "torchao-qat": ["Q4_0", "Q4_1", "Q5_0", "Q8_0"],
}


def load(name: str) -> tuple[QuantizedWeight, StoredTensor]:
    """The weight, and the reference's."""
    file = SafetensorsFile(GOLDEN / f"{name}.safetensors")
    settings = json.loads(file.texts["quantization_config"])
    found = dequantized(file.tensors, Config("config.json", settings))
    assert found is not None
    assert found.tensors.keys() == {"layer.weight", "expected"}
    weight = found.tensors["layer.weight"]
    assert isinstance(weight, QuantizedWeight)
    return weight, found.tensors["expected"]


@pytest.mark.parametrize("name", NAMES)
def test_a_weight_is_bit_for_bit_that_of_its_library(name: str) -> None:
    weight, expected = load(name)
    assert weight.shape == expected.shape
    ours = to_float32(weight.read_rows(0, weight.num_rows), weight.stored_type)
    theirs = expected.read_rows(0, expected.num_rows)
    rounded = as_stored(ours, expected.stored_type)
    if name == "bnb-fp4":  # the library's own table has a zero below zero, that of its file has not
        assert to_float32(rounded, expected.stored_type).tolist() == (
            to_float32(theirs, expected.stored_type).tolist()
        )
    else:
        assert rounded.tobytes() == theirs.tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_those_of_the_whole(name: str) -> None:
    weight, _ = load(name)
    whole = weight.read_rows(0, weight.num_rows)
    last = weight.num_rows
    for start, stop in ((0, 1), (3, 12), (last // 2 - 1, last // 2 + 2), (last - 1, last)):
        assert weight.read_rows(start, stop).tobytes() == whole[start:stop].tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_blocks_hold_the_same_numbers(name: str) -> None:
    weight, _ = load(name)
    if isinstance(weight.turned, QuantizedWeight):
        weight = weight.turned
    assert [ggml_type.name for ggml_type in weight.packs] == TYPES.get(name, [])
    floats = weight.read_rows(3, 12)
    for ggml_type in weight.packs:
        blocks = weight.read_packed(3, 12, ggml_type)
        again = np.ascontiguousarray(dequantize(blocks, ggml_type))
        if ggml_type.name == "NVFP4":  # the scale of the whole is a tensor of its own
            again *= weight.block_scale
            np.testing.assert_allclose(again, floats, rtol=2e-7)
            continue
        if name == "bitnet":  # one divided by its scale is no number of F16
            np.testing.assert_allclose(again, floats, rtol=2**-11)
            assert weight.shared.rounding.num_rounded > 0
            continue
        if ggml_type.name == "MXFP4":  # of whose zeros ggml has one sign only
            floats = floats + np.float32(0)
            again = again + np.float32(0)
        assert again.tobytes() == floats.tobytes()
    assert name == "bitnet" or weight.shared.rounding.num_rounded == 0


def test_every_golden_file_is_looked_at() -> None:
    assert len(NAMES) == 48
    assert set(TYPES) <= set(NAMES)

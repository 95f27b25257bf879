"""Quantized checkpoints that cannot be read say which scheme they are of, and the way out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import dequantize

from convert.config import Config
from convert.dequantize.quantization import Dequantized, dequantized
from convert.dequantize.repack import Integers, ScaleRounding, pack_integers
from convert.dequantize.weight import QuantizedWeight
from convert.errors import BadInput, DamagedCheckpoint, MissingFile, UnsupportedModel
from convert.quantize import Unrepresentable
from convert.safetensors_file import SafetensorsFile, StoredTensor

GOLDEN = Path(__file__).parent / "golden"


def read(
    golden: str,
    settings: Mapping[str, Any] | None = None,
    *,
    without: str = "",
    **changes: Any,
) -> Dequantized | None:
    """A golden file, without one of its tensors or with other settings."""
    file = SafetensorsFile(GOLDEN / f"{golden}.safetensors")
    known = json.loads(file.texts["quantization_config"]) if settings is None else dict(settings)
    kept: dict[str, StoredTensor] = {
        name: tensor for name, tensor in file.tensors.items() if name != f"layer.{without}"
    }
    return dequantized(kept, Config("config.json", {**known, **changes}))


@pytest.mark.parametrize(
    ("golden", "changes", "message"),
    [
        ("gptq-4", {"quant_method": "novel"}, r"\(novel\), in a way that cannot.*gptq, awq"),
        ("gptq-4", {"quant_method": "quip"}, r"by QuIP \(quant_method: quip\).*are rotated"),
        ("gptq-4", {"quant_method": "vptq"}, "by VPTQ .*learned tables.*unquantized checkpoint"),
        ("quark-int4", {"algo_config": [{"name": "quarot"}]}, r"Quark rotated .* \(quarot\)"),
        ("quark-int4", {"global_quant_config": {"weight": {}}}, "as Quark's None"),
        ("quark-int4", {"global_quant_config": {"weight": [{}, {}]}}, "in several steps"),
        ("bitnet", {"quantization_mode": "online"}, "quantized when the model is loaded"),
        ("bitnet", {"use_rms_norm": True}, "norms in front of them"),
        ("mlx-4", {"layer": {"mode": "nvfp4"}}, "mode = 'nvfp4'; of MLX's, affine can be read"),
        ("gptq-4", {"checkpoint_format": "marlin"}, "checkpoint_format = 'marlin'"),
        ("gptq-4", {"bits": 5}, "bits = 5; of this scheme 2, 3, 4, 8"),
        ("awq", {"version": "gemv"}, "version = 'gemv'"),
        ("awq", {"bits": 8}, "bits = 8; of this scheme 4"),
        ("compressed-int4", {"format": "marlin-24"}, "sparse .*marlin-24"),
        (
            "compressed-int4",
            {"sparsity_config": {"format": "sparse-24-bitmask"}},
            "sparse .*sparse-24-bitmask",
        ),
    ],
)
def test_what_is_not_known_is_named(golden: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedModel, match=message):
        read(golden, **changes)


@pytest.mark.parametrize(
    ("golden", "part"),
    [
        ("gptq-4", "scales"),
        ("awq", "qzeros"),
        ("compressed-int4", "weight_scale"),
        ("compressed-int4-asymmetric", "weight_zero_point"),
        ("fp8-block", "weight_scale_inv"),
        ("mxfp4", "weight_scales"),
        ("bnb-nf4", "weight.absmax"),
        ("bnb-nf4-nested", "weight.nested_quant_map"),
        ("hqq-4", "zero"),
        ("torchao-int8", "_weight_scale"),
        ("quark-int4", "weight_scale"),
        ("aqlm-2x8", "codebooks"),
        ("quark-uint4", "weight_zero_point"),
    ],
)
def test_a_part_that_is_missing_is_named(golden: str, part: str) -> None:
    with pytest.raises(MissingFile, match=part.replace(".", r"\.")):
        read(golden, without=part)


@pytest.mark.parametrize(
    ("golden", "changes", "message"),
    [
        ("gptq-4", {"group_size": 64}, r"qzeros has shape \[4, 4\].* needs \[2, 4\]"),
        ("gptq-4", {"bits": 8}, "needs"),
        ("awq", {"group_size": 128}, "needs"),
        ("compressed-int4", {"config_groups": {}}, "does not say how layer is quantized"),
    ],
)
def test_settings_that_do_not_fit(golden: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        read(golden, **changes)


def test_columns_out_of_order_need_act_order() -> None:
    found = read("gptq-4-mixed", desc_act=False)
    assert found is not None
    with pytest.raises(DamagedCheckpoint, match="desc_act is false"):
        found.tensors["layer.weight"].read_rows(0, 1)


def test_zero_points_out_of_the_middle_are_not_symmetric() -> None:
    found = read("gptq-4-asymmetric", sym=True)
    assert found is not None
    weight = found.tensors["layer.weight"]
    assert isinstance(weight, QuantizedWeight)
    with pytest.raises(DamagedCheckpoint, match="try false"):
        weight.read_packed(0, 32, GGMLQuantizationType.Q4_0)


def test_fp8_is_known_by_its_tensors() -> None:
    found = read("fp8-block", {})
    assert found is not None
    assert "already quantized (fp8)" in found.notes[0]


def test_scales_that_are_no_half_precision_numbers_are_counted() -> None:
    rounding = ScaleRounding()
    scales = np.array([[0.25, 0.1], [0.1, 65536.0]], np.float32)
    rows = Integers(np.ones((1, 64), np.int16), scales[:1], 32)
    blocks = pack_integers(rows, GGMLQuantizationType.Q8_0, "w", rounding)
    assert dequantize(blocks, GGMLQuantizationType.Q8_0)[0, [0, 32]].tolist() == [
        0.25,
        float(np.float16(0.1)),
    ]
    assert (rounding.num_scales, rounding.num_rounded) == (2, 1)
    with pytest.raises(Unrepresentable, match="w: its scales are too large for Q8_0"):
        pack_integers(
            Integers(np.ones((1, 64), np.int16), scales[1:], 32),
            GGMLQuantizationType.Q8_0,
            "w",
            rounding,
        )

"""Makes the golden data of quantized weights: small modules packed by the library that each
scheme comes from, and the weights that it computes of them itself.

    pip install torch==2.13.0 transformers==5.24.0 compressed-tensors==0.20.1 \
        bitsandbytes==0.50.2 hqq==0.2.8.post1 torchao==0.18.0
    pip download --no-deps auto-gptq==0.7.1 autoawq==0.2.9      # and unpack both
    python tests/convert/dequantize/golden/make.py AUTO_GPTQ_FOLDER AUTOAWQ_FOLDER [NAME ...]

The last two cannot be installed beside a new torch: only the modules that pack and unpack are
imported, out of the unpacked folders. Each NAME.safetensors beside this file holds the tensors
of a module `layer` as they would be in a checkpoint, `expected` as the library computes it, and
the quantization_config in its header. Weights come from a fixed seed.
"""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

HERE = Path(__file__).parent
Golden = tuple[dict[str, Tensor], Tensor, dict[str, Any]]


def weight(rows: int = 32, columns: int = 128, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(rows * 1000 + columns)
    values = torch.randn(rows, columns, generator=generator) * 0.05
    values[0, 0] = 0.4  # one that stands out
    return values.to(dtype)


def linear(values: Tensor) -> nn.Linear:
    layer = nn.Linear(values.shape[1], values.shape[0], bias=False)
    layer.weight.data = values.clone()
    return layer


def open_package(name: str, folder: Path) -> None:
    """Lets modules of a package be imported without what its __init__ imports."""
    package = types.ModuleType(name)
    package.__path__ = [str(folder)]
    sys.modules[name] = package


# --- GPTQ and AWQ -----------------------------------------------------------------------


def affine(values: Tensor, groups: Tensor, bits: int, symmetric: bool) -> tuple[Tensor, Tensor]:
    """Scales and zero points, each (rows, groups), as GPTQ's quantizer finds them."""
    scales, zeros = [], []
    for group in range(int(groups.max()) + 1):
        part = values[:, groups == group]
        least, most = part.amin(1).clamp(max=0), part.amax(1).clamp(min=0)
        if symmetric:
            most = torch.maximum(most, -least)
            least = -most
        scale = ((most - least) / (2**bits - 1)).half().float()
        middle = torch.full_like(scale, 2 ** (bits - 1))
        scales.append(scale)
        zeros.append(middle if symmetric else torch.round(-least / scale).clamp(1, 2**bits - 1))
    return torch.stack(scales, 1), torch.stack(zeros, 1)


def gptq(bits: int, *, symmetric: bool = True, mixed: bool = False, version: int = 1) -> Golden:
    from auto_gptq.nn_modules.qlinear.qlinear_cuda import QuantLinear

    values = weight(dtype=torch.float16)
    groups = torch.arange(values.shape[1]) // 32
    if mixed:
        groups = groups[torch.randperm(len(groups), generator=torch.Generator().manual_seed(5))]
    scales, zeros = affine(values.float(), groups, bits, symmetric)
    rows, columns = values.shape
    layer = QuantLinear(bits, 32, infeatures=columns, outfeatures=rows, bias=False)
    layer.pack(linear(values), scales.clone(), zeros.clone(), groups.int())
    tensors = {name: getattr(layer, name) for name in ("qweight", "qzeros", "scales", "g_idx")}
    # what the layer multiplies by: its output for each unit vector
    units = torch.eye(values.shape[1], dtype=torch.float16)
    expected = layer(units).T.contiguous()
    settings = {
        "quant_method": "gptq",
        "bits": bits,
        "group_size": 32,
        "sym": symmetric,
        "desc_act": mixed,
    }
    if version == 2:  # zero points as they are; bits of a word never overflow: none is the last
        added = sum(1 << (bits * place) for place in range(32 // bits))
        tensors["qzeros"] = (tensors["qzeros"].long() + added).to(torch.int32)
        settings["checkpoint_format"] = "gptq_v2"
    return tensors, expected, settings


def awq() -> Golden:
    from awq.modules.linear.gemm import WQLinear_GEMM
    from awq.utils.packing_utils import dequantize_gemm

    values = weight()
    groups = torch.arange(values.shape[1]) // 32
    scales, zeros = affine(values, groups, 4, symmetric=False)
    layer = WQLinear_GEMM.from_linear(
        linear(values), 4, 32, scales=scales.T.contiguous(), zeros=zeros.T.contiguous()
    )
    tensors = {name: getattr(layer, name) for name in ("qweight", "qzeros", "scales")}
    expected = dequantize_gemm(layer.qweight, layer.qzeros, layer.scales, 4, 32).T.contiguous()
    settings = {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm"}
    return tensors, expected, {**settings, "zero_point": True}


# --- compressed-tensors and FP8 -----------------------------------------------------------


def compressed(
    layout: str, arguments: dict[str, Any], shape: tuple[int, int] = (32, 128)
) -> Golden:
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    from compressed_tensors.quantization.utils import (
        calculate_qparams,
        generate_gparam,
    )

    values = weight(*shape, dtype=torch.bfloat16)
    args = QuantizationArgs(**arguments)
    scheme = QuantizationScheme(targets=["Linear"], weights=args)
    blocks = in_blocks(values, arguments)
    least, most = blocks.amin(-1), blocks.amax(-1)
    state: dict[str, Tensor] = {"weight": values}
    factor = None
    if arguments.get("strategy") == "tensor_group":
        factor = generate_gparam(values.float().amin(), values.float().amax())
        state["weight_global_scale"] = factor.reshape(1)
    scale, zero = calculate_qparams(least, most, args, global_scale=factor)
    state["weight_scale"], state["weight_zero_point"] = scale.to(values.dtype), zero
    if factor is not None:
        state["weight_scale"] = scale
    compressor = BaseCompressor.get_value_from_registry(layout)
    tensors = compressor.compress(state, scheme)
    expected = compressor.decompress(dict(tensors), scheme)["weight"]
    settings = {
        "quant_method": "compressed-tensors",
        "format": layout,
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": arguments}},
        "ignore": ["lm_head"],
    }
    return {name: tensor.data for name, tensor in tensors.items()}, expected.data, settings


def in_blocks(values: Tensor, arguments: dict[str, Any]) -> Tensor:
    """The values that share a scale, along the last axis."""
    rows, columns = values.shape
    match arguments["strategy"]:
        case "tensor":
            return values.reshape(1, -1)
        case "channel":
            return values.reshape(rows, 1, -1)
        case "block":
            height, width = arguments["block_structure"]
            blocks = values.reshape(rows // height, height, columns // width, width)
            return blocks.transpose(1, 2).reshape(rows // height, columns // width, -1)
        case _:
            return values.reshape(rows, -1, arguments["group_size"])


def fp8() -> Golden:
    """Blocks of 32 x 64, where there are 128 x 128 in large ones, by transformers."""
    from transformers.integrations.finegrained_fp8 import Fp8Dequantize

    values = weight(64, 128)
    blocks = values.reshape(2, 32, 2, 64)
    scale = blocks.abs().amax((1, 3)) / 448
    codes = (blocks / scale[:, None, :, None]).reshape(64, 128).to(torch.float8_e4m3fn)
    expected = Fp8Dequantize(None)._dequantize_one(codes, scale, torch.float32)
    settings = {"quant_method": "fp8", "weight_block_size": [32, 64]}
    return {"weight": codes, "weight_scale_inv": scale}, expected, settings


def mxfp4() -> Golden:
    """gpt-oss's blocks, by transformers, which puts the matrices of experts on their side."""
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    generator = torch.Generator().manual_seed(9)
    blocks = torch.randint(0, 256, (2, 8, 4, 16), generator=generator, dtype=torch.uint8)
    scales = torch.randint(118, 126, (2, 8, 4), generator=generator, dtype=torch.uint8)
    expected = convert_moe_packed_tensors(blocks, scales)
    return {"weight_blocks": blocks, "weight_scales": scales}, expected, {"quant_method": "mxfp4"}


# --- bitsandbytes, HQQ, torchao -----------------------------------------------------------


def four_bits(kind: str, *, nested: bool, dtype: torch.dtype) -> Golden:
    from bitsandbytes import functional

    values = weight(dtype=dtype)
    packed, state = functional.quantize_4bit(
        values, blocksize=64, compress_statistics=nested, quant_type=kind
    )
    tensors = {"weight": packed}
    tensors |= {f"weight.{name}": part for name, part in state.as_dict(packed=True).items()}
    expected = functional.dequantize_4bit(packed, state)
    settings = {
        "quant_method": "bitsandbytes",
        "load_in_4bit": True,
        "bnb_4bit_quant_type": kind,
        "bnb_4bit_use_double_quant": nested,
    }
    return tensors, expected, settings


def eight_bits() -> Golden:
    from bitsandbytes import functional

    codes, stats, _ = functional.int8_vectorwise_quant(weight().half())
    expected = functional.int8_vectorwise_dequant(codes, stats)
    tensors = {"weight": codes, "SCB": stats, "weight_format": torch.tensor(0, dtype=torch.uint8)}
    return tensors, expected, {"quant_method": "bitsandbytes", "load_in_8bit": True}


def hqq(bits: int, axis: int, dtype: torch.dtype = torch.float16) -> Golden:
    from hqq.core.quantize import BaseQuantizeConfig, HQQLinear

    settings = BaseQuantizeConfig(nbits=bits, group_size=64, axis=axis)
    layer = HQQLinear(linear(weight()), settings, compute_dtype=dtype, device="cpu")
    tensors = {name: part.contiguous() for name, part in layer.state_dict().items()}
    return tensors, layer.dequantize(), {"quant_method": "hqq"}


def torchao(kind: str) -> Golden:
    """With what of `flatten_tensor_state_dict` stands in the header of a file."""
    from torchao.prototype.safetensors.safetensors_support import flatten_tensor_state_dict
    from torchao.quantization import (
        Float8WeightOnlyConfig,
        Int8WeightOnlyConfig,
        IntxWeightOnlyConfig,
        PerGroup,
        quantize_,
    )

    layer = nn.Sequential(linear(weight(dtype=torch.bfloat16)))
    config = {
        "int8": Int8WeightOnlyConfig(version=2),
        "int4": IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=PerGroup(32), version=2),
        "float8": Float8WeightOnlyConfig(version=2),
    }[kind]
    quantize_(layer, config)
    tensors, texts = flatten_tensor_state_dict({"layer.weight": layer[0].weight.data})
    tensors = {name.removeprefix("layer."): part for name, part in tensors.items()}
    expected = layer[0].weight.data.dequantize()
    return tensors, expected, {"quant_method": "torchao", "texts": texts}


def torchao_qat() -> Golden:
    """What quantization-aware training leaves: int4 in groups of 32, inputs rounded to int8."""
    from torchao.prototype.safetensors.safetensors_support import flatten_tensor_state_dict
    from torchao.quantization import (
        Int8DynamicActivationIntxWeightConfig,
        PerGroup,
        quantize_,
    )
    from torchao.quantization.qat import QATConfig

    config = Int8DynamicActivationIntxWeightConfig(
        weight_dtype=torch.int4, weight_granularity=PerGroup(32), version=2
    )
    layer = nn.Sequential(linear(weight(dtype=torch.bfloat16)))
    quantize_(layer, QATConfig(config, step="prepare"))
    quantize_(layer, QATConfig(config, step="convert"))
    tensors, texts = flatten_tensor_state_dict({"layer.weight": layer[0].weight.data})
    tensors = {name.removeprefix("layer."): part for name, part in tensors.items()}
    expected = layer[0].weight.data.dequantize()
    return tensors, expected, {"quant_method": "torchao", "texts": texts}


# --- all of them --------------------------------------------------------------------------

INT4 = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 32}
INT8 = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel"}
FP8 = {"num_bits": 8, "type": "float", "symmetric": True}
FP4 = {**FP8, "num_bits": 4}
GOLDEN: dict[str, Callable[[], Golden]] = {
    "gptq-4": lambda: gptq(4),
    "gptq-4-asymmetric": lambda: gptq(4, symmetric=False),
    "gptq-4-mixed": lambda: gptq(4, symmetric=False, mixed=True),
    "gptq-4-version-2": lambda: gptq(4, symmetric=False, version=2),
    "gptq-8": lambda: gptq(8),
    "gptq-3": lambda: gptq(3),
    "gptq-2": lambda: gptq(2),
    "awq": awq,
    "compressed-int4": lambda: compressed("pack-quantized", INT4),
    "compressed-int4-asymmetric": lambda: compressed(
        "pack-quantized", {**INT4, "symmetric": False}
    ),
    "compressed-int3": lambda: compressed("pack-quantized", {**INT4, "num_bits": 3}),
    "compressed-int8-packed": lambda: compressed("pack-quantized", {**INT4, "num_bits": 8}),
    "compressed-int8": lambda: compressed("int-quantized", INT8),
    "compressed-int8-asymmetric": lambda: compressed("int-quantized", {**INT8, "symmetric": False}),
    "compressed-fp8-tensor": lambda: compressed("float-quantized", {**FP8, "strategy": "tensor"}),
    "compressed-fp8-channel": lambda: compressed("float-quantized", {**FP8, "strategy": "channel"}),
    "compressed-fp8-block": lambda: compressed(
        "naive-quantized", {**FP8, "strategy": "block", "block_structure": [16, 64]}
    ),
    "compressed-nvfp4": lambda: compressed(
        "nvfp4-pack-quantized", {**FP4, "strategy": "tensor_group", "group_size": 16}
    ),
    "compressed-mxfp4": lambda: compressed(
        "mxfp4-pack-quantized", {**FP4, "strategy": "group", "group_size": 32}
    ),
    "fp8-block": fp8,
    "mxfp4": mxfp4,
    "bnb-nf4": lambda: four_bits("nf4", nested=False, dtype=torch.bfloat16),
    "bnb-nf4-nested": lambda: four_bits("nf4", nested=True, dtype=torch.float16),
    "bnb-fp4": lambda: four_bits("fp4", nested=False, dtype=torch.float16),
    "bnb-int8": eight_bits,
    "hqq-4": lambda: hqq(4, axis=1),
    "hqq-4-axis-0": lambda: hqq(4, axis=0),
    "hqq-8": lambda: hqq(8, axis=1, dtype=torch.bfloat16),
    "hqq-3": lambda: hqq(3, axis=1),
    "torchao-int8": lambda: torchao("int8"),
    "torchao-int4": lambda: torchao("int4"),
    "torchao-float8": lambda: torchao("float8"),
    "torchao-qat": torchao_qat,
}


def main(arguments: list[str]) -> None:
    gptq_folder, awq_folder, *names = arguments
    for name in ("auto_gptq", "auto_gptq.nn_modules", "auto_gptq.nn_modules.qlinear"):
        open_package(name, Path(gptq_folder, *name.split(".")))
    for name in ("awq", "awq.utils", "awq.modules", "awq.modules.linear"):
        open_package(name, Path(awq_folder, *name.split(".")))
    write(GOLDEN, names)


def write(golden: dict[str, Callable[[], Golden]], names: list[str]) -> None:
    """Those of these names, or all."""
    for name in names or golden:
        tensors, expected, settings = golden[name]()
        texts = settings.pop("texts", {})
        stored = {f"layer.{part}": tensor.contiguous() for part, tensor in tensors.items()}
        stored["expected"] = expected.contiguous()
        texts = {**texts, "quantization_config": json.dumps(settings)}
        save_file(stored, HERE / f"{name}.safetensors", metadata=texts)
        print(name, tuple(expected.shape), expected.dtype, [*tensors])


if __name__ == "__main__":
    main(sys.argv[1:])

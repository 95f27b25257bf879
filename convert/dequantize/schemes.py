"""Every way of quantizing a checkpoint that is known here, and what is done with each.

Knows no model family. The documentation's table is made of `SCHEMES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from convert.config import Config
from convert.dequantize.aqlm import aqlm_parts
from convert.dequantize.bitnet import bitnet_parts
from convert.dequantize.bitsandbytes import bitsandbytes_parts
from convert.dequantize.compressed_tensors import compressed_weight
from convert.dequantize.fp4 import mx4_weight, turned_mx4_weight
from convert.dequantize.fp8 import fp8_parts
from convert.dequantize.gptq import awq_weight, gptq_weight, of_module
from convert.dequantize.hqq import hqq_parts
from convert.dequantize.mlx import mlx_parts
from convert.dequantize.modelopt import modelopt_parts
from convert.dequantize.quark import quark_parts
from convert.dequantize.torchao import torchao_parts
from convert.dequantize.weight import Shared
from convert.errors import MissingFile, UnsupportedModel
from convert.safetensors_file import StoredTensor

Parts = Mapping[str, StoredTensor]
# a module's tensors by the rest of their names -> the same with floats for its weight
ReadModule = Callable[[str, Parts, Config, Shared], Parts]


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """One value of `quant_method`."""

    method: str
    title: str
    reads: str  # what of it can be read, for people
    kept_as: str  # the types of GGUF that hold the same numbers
    read_module: ReadModule


def _gptq(module: str, parts: Parts, config: Config, shared: Shared) -> Parts:
    config = of_module(config, module)
    names = ("qweight", "qzeros", "scales", "g_idx")
    return _packed(module, parts, names, lambda name, own: gptq_weight(name, own, config, shared))


def _awq(module: str, parts: Parts, config: Config, shared: Shared) -> Parts:
    names = ("qweight", "qzeros", "scales")
    return _packed(module, parts, names, lambda name, own: awq_weight(name, own, config, shared))


# How AutoRound packs: GPTQ's tensors, whose zero points are stored less one or as they are,
# or AWQ's (auto_round/inference/backend.py).
_AUTO_ROUND = {
    "auto_round:auto_gptq": "gptq",
    "auto_round": "gptq_v2",
    "auto_round:gptqmodel": "gptq_v2",
}


def _auto_round(module: str, parts: Parts, config: Config, shared: Shared) -> Parts:
    packing = config.text("packing_format", "auto_round:auto_gptq")
    if packing == "auto_round:auto_awq":
        return _awq(module, parts, of_module(config, module), shared)
    if packing not in _AUTO_ROUND:
        known = ", ".join([*_AUTO_ROUND, "auto_round:auto_awq"])
        raise UnsupportedModel(
            f"{config.path} has packing_format = {packing!r}; of AutoRound's, {known} can be read. "
            "Use the unquantized checkpoint of this model."
        )
    settings = {**config.values, "checkpoint_format": _AUTO_ROUND[packing]}
    return _gptq(module, parts, Config(config.path, settings), shared)


def _old_auto_round(module: str, parts: Parts, config: Config, shared: Shared) -> Parts:
    """Before 0.4, `backend` said it: AWQ's packing without one, else GPTQ's, whose zero points
    are stored less one where it names GPTQ (auto_round/export/export_to_autoround/export.py).
    """
    backend = config.text("backend", "awq")
    if "awq" in backend:
        return _awq(module, parts, of_module(config, module), shared)
    settings = {**config.values, "checkpoint_format": "gptq" if "gptq" in backend else "gptq_v2"}
    return _gptq(module, parts, Config(config.path, settings), shared)


def _packed(
    module: str,
    parts: Parts,
    names: tuple[str, ...],
    make: Callable[[str, Parts], StoredTensor],
) -> Parts:
    """`parts` with one weight in place of those of these names, of which three are needed."""
    if "qweight" not in parts:
        return parts
    for name in names[:3]:
        if name not in parts:
            raise MissingFile(
                f"The checkpoint does not contain {module}.{name}, without which {module}.qweight "
                "cannot be read. Download it again."
            )
    own = {name: parts[name] for name in names if name in parts}
    rest = {name: tensor for name, tensor in parts.items() if name not in names}
    return {**rest, "weight": make(f"{module}.weight", own)}


_COMPRESSED = (
    "weight_packed",
    "weight_scale",
    "weight_zero_point",
    "weight_g_idx",
    "weight_global_scale",
)


def _compressed(module: str, parts: Parts, config: Config, shared: Shared) -> Parts:
    if not any(name in parts for name in ("weight_packed", "weight_scale")):
        return parts
    rest = {name: tensor for name, tensor in parts.items() if name not in _COMPRESSED}
    return {**rest, "weight": compressed_weight(module, parts, config, shared)}


def _mxfp4(module: str, parts: Parts, _config: Config, shared: Shared) -> Parts:
    made = dict(parts)
    for name in parts:
        stem = name.removesuffix("_blocks")
        if stem == name:
            continue
        if f"{stem}_scales" not in parts:
            raise MissingFile(f"The checkpoint does not contain {module}.{stem}_scales.")
        codes, scales = made.pop(name), made.pop(f"{stem}_scales")
        upright = mx4_weight(f"{module}.{stem}", codes, scales, shared)
        made[stem] = turned_mx4_weight(upright, shared)
    return made


SCHEMES: tuple[Scheme, ...] = (
    Scheme(
        method="gptq",
        title="GPTQ (AutoGPTQ, GPTQModel)",
        reads="2, 3, 4 and 8 bits, with act-order and without, symmetric or not, "
        "formats `gptq` and `gptq_v2`",
        kept_as="without act-order: symmetric 4 bits `Q4_0`, 8 bits `Q8_0`; asymmetric 4 bits "
        "`Q5_0`, `Q8_0`; see below",
        read_module=_gptq,
    ),
    Scheme(
        method="awq",
        title="AWQ (AutoAWQ)",
        reads="4 bits, layout `gemm`",
        kept_as="`Q5_0`, `Q8_0`; see below",
        read_module=_awq,
    ),
    Scheme(
        method="auto-round",
        title="AutoRound",
        reads="its packings of GPTQ's and AWQ's kind",
        kept_as="as theirs",
        read_module=_auto_round,
    ),
    Scheme(
        method="intel/auto-round",
        title="AutoRound before 0.4 (Intel)",
        reads="the same",
        kept_as="as theirs",
        read_module=_old_auto_round,
    ),
    Scheme(
        method="fp8",
        title="FP8 (DeepSeek, Qwen, vLLM)",
        reads="E4M3 and E5M2; a scale for the whole, for each row or for each block; "
        "scales that are powers of two",
        kept_as="-",
        read_module=fp8_parts,
    ),
    Scheme(
        method="fbgemm_fp8",
        title="FP8 (FBGEMM)",
        reads="a scale for each row",
        kept_as="-",
        read_module=fp8_parts,
    ),
    Scheme(
        method="modelopt",
        title="NVIDIA Model Optimizer",
        reads="FP8, MXFP8, NVFP4, int8, int4 (AWQ); also where `hf_quant_config.json` alone tells "
        "of it",
        kept_as="int4 `Q4_0`, int8 `Q8_0`",
        read_module=modelopt_parts,
    ),
    Scheme(
        method="compressed-tensors",
        title="compressed-tensors (llm-compressor; its SmoothQuant, GPTQ and AWQ too)",
        reads="`pack-quantized` (1 to 8 bits), `int-quantized`, `float-quantized`, "
        "`naive-quantized`, MXFP8, MXFP4, NVFP4",
        kept_as="symmetric 4 bits `Q4_0`, 8 bits `Q8_0`; asymmetric 4 bits `Q4_1`, `Q5_0`, "
        "`Q8_0`; MXFP4 `MXFP4`; see below",
        read_module=_compressed,
    ),
    Scheme(
        method="mxfp4",
        title="MXFP4 (gpt-oss)",
        reads="blocks of 32 with E8M0 scales",
        kept_as="`MXFP4`",
        read_module=_mxfp4,
    ),
    Scheme(
        method="bitsandbytes",
        title="bitsandbytes",
        reads="NF4, FP4, with double quantization too; LLM.int8",
        kept_as="-",
        read_module=bitsandbytes_parts,
    ),
    Scheme(
        method="hqq",
        title="HQQ",
        reads="1, 2, 3, 4 and 8 bits, either axis",
        kept_as="-",
        read_module=hqq_parts,
    ),
    Scheme(
        method="aqlm",
        title="AQLM",
        reads="any number of tables of up to 65,536 entries",
        kept_as="-",
        read_module=aqlm_parts,
    ),
    Scheme(
        method="torchao",
        title="torchao",
        reads="`Int8Tensor`, `IntxUnpackedToInt8Tensor` (1 to 8 bits), `Float8Tensor`, "
        "`Int4Tensor`; not those in a GPU's layout",
        kept_as="whole numbers around zero: up to 4 bits `Q4_0`, else `Q8_0`; see below",
        read_module=torchao_parts,
    ),
    Scheme(
        method="mlx",
        title="MLX (mlx-lm, mlx-community), which writes no `quant_method`",
        reads="`affine` of 2 to 8 bits, in any groups, with layers of their own settings",
        kept_as="up to 4 bits `Q4_1`, `Q5_1`; 5 bits `Q5_1`; see below",
        read_module=mlx_parts,
    ),
    Scheme(
        method="quark",
        title="Quark (AMD)",
        reads="FP8, int8 for a tensor or a channel, int4 in groups, MXFP4",
        kept_as="symmetric int4 `Q4_0`, int8 `Q8_0`; asymmetric int4 `Q5_0`, `Q8_0`; "
        "MXFP4 `MXFP4`; see below",
        read_module=quark_parts,
    ),
    Scheme(
        method="bitnet",
        title="BitNet's ternary weights in models of other families (Falcon3 1.58bit)",
        reads="packed offline, without norms of their own",
        kept_as="`TQ2_0`, `Q4_0`, `Q8_0`; see below",
        read_module=bitnet_parts,
    ),
)
BY_METHOD: Mapping[str, Scheme] = {scheme.method: scheme for scheme in SCHEMES}

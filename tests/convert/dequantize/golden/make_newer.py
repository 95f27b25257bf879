"""Makes the golden data of Quark and BitNet, as make.py does that of the others.

pip download --no-deps amd-quark==0.13      # and unpack it
python tests/convert/dequantize/golden/make_newer.py QUARK_FOLDER [NAME ...]
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from make import Golden, affine, open_package, weight, write


def quark_int4(*, symmetric: bool) -> Golden:
    from quark.torch.utils.pack import Pack_4_bits

    values = weight(dtype=torch.bfloat16)
    groups = torch.arange(values.shape[1]) // 32
    scales, zeros = affine(values.float(), groups, 4, symmetric)
    scales = scales.bfloat16()
    numbers = torch.round(values.float() / scales.float()[:, groups] + zeros[:, groups])
    numbers = numbers.clamp(0, 15)
    if symmetric:
        numbers -= 8
    packer = Pack_4_bits("per_group", "int4" if symmetric else "uint4")
    tensors = {"weight": packer.pack(numbers.int()), "weight_scale": scales.T.contiguous()}
    kept = packer.unpack(tensors["weight"]).float()
    if not symmetric:
        tensors["weight_zero_point"] = packer.pack(zeros.int())
        kept -= packer.unpack(tensors["weight_zero_point"]).float()[:, groups]
    expected = (kept * scales.float()[:, groups]).bfloat16()
    spec = {"dtype": packer.dtype, "qscheme": "per_group", "group_size": 32, "ch_axis": -1}
    return tensors, expected, quark_settings({**spec, "symmetric": symmetric})


def quark_fp4() -> Golden:
    from quark.torch.utils.pack import Pack_fp4

    generator = torch.Generator().manual_seed(12)
    codes = torch.randint(0, 256, (32, 64), generator=generator, dtype=torch.uint8)
    powers = torch.randint(118, 126, (32, 4), generator=generator, dtype=torch.uint8)
    kept = Pack_fp4("per_group", "fp4").unpack(codes, True)
    expected = kept * torch.exp2(powers.float() - 127).repeat_interleave(32, dim=1)
    spec = {"dtype": "fp4", "qscheme": "per_group", "group_size": 32, "scale_format": "e8m0"}
    return {"weight": codes, "weight_scale": powers}, expected, quark_settings(spec)


def quark_settings(spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "quant_method": "quark",
        "export": {"pack_method": "reorder", "weight_format": "real_quantized"},
        "global_quant_config": {"weight": spec, "input_tensors": None},
        "layer_quant_config": {"*lm_head": {"weight": {"dtype": "int8"}}},
        "exclude": ["lm_head"],
    }


def bitnet(kind: str) -> Golden:
    from transformers.integrations.bitnet import pack_weights, unpack_weights

    generator = torch.Generator().manual_seed(13)
    numbers = torch.randint(-1, 2, (32, 256), generator=generator)
    packed = pack_weights(numbers.clone())
    scale = torch.tensor([0.4375 if kind == "autobitlinear" else 4.5], dtype=torch.bfloat16)
    unpacked = unpack_weights.__wrapped__(packed, torch.float32)
    expected = unpacked * scale.float() if kind == "autobitlinear" else unpacked / scale.float()
    settings = {"quant_method": "bitnet", "linear_class": kind, "quantization_mode": "offline"}
    return {"weight": packed, "weight_scale": scale}, expected, settings


def aqlm(num_tables: int, bits: int, height: int = 1) -> Golden:
    from aqlm.utils import _dequantize_weight, pack_int_data, unpack_int_data

    generator = torch.Generator().manual_seed(14)
    codes = torch.randint(0, 2**bits, (32 // height, 16, num_tables), generator=generator)
    tables = torch.randn(num_tables, 2**bits, height, 8, generator=generator).half()
    scales = (torch.rand(32 // height, 1, 1, 1, generator=generator) * 0.05).half()
    packed = pack_int_data(codes, bits)
    expected = _dequantize_weight(unpack_int_data(packed, bits), tables, scales)
    settings = {
        "quant_method": "aqlm",
        "num_codebooks": num_tables,
        "nbits_per_codebook": bits,
        "in_group_size": 8,
        "out_group_size": height,
    }
    return {"codes": packed, "codebooks": tables, "scales": scales}, expected, settings


GOLDEN: dict[str, Callable[[], Golden]] = {
    "quark-int4": lambda: quark_int4(symmetric=True),
    "quark-uint4": lambda: quark_int4(symmetric=False),
    "quark-mxfp4": quark_fp4,
    "bitnet": lambda: bitnet("bitlinear"),
    "bitnet-auto": lambda: bitnet("autobitlinear"),
    "aqlm-1x9": lambda: aqlm(1, 9),
    "aqlm-2x8": lambda: aqlm(2, 8),
    "aqlm-4x6-tall": lambda: aqlm(4, 6, height=4),
}


def main(arguments: list[str]) -> None:
    quark_folder, aqlm_folder, *names = arguments
    packages = ("quark", "quark.torch", "quark.torch.utils", "quark.torch.quantization")
    for name in (*packages, "quark.torch.quantization.config"):
        open_package(name, Path(quark_folder, *name.split(".")))
    open_package("aqlm", Path(aqlm_folder, "aqlm"))
    write(GOLDEN, names)


if __name__ == "__main__":
    main(sys.argv[1:])

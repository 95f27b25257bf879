"""Weights quantized and packed as published checkpoints have them, by the schemes' formulas.

Each function returns the tensors of one module and the weight that they stand for, in float32.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Tensors = dict[str, NDArray[Any]]
Packed = tuple[Tensors, NDArray[np.float32]]
Pack = Callable[[NDArray[np.float32]], Packed]

GROUP = 32
_AWQ_COLUMNS = [0, 2, 4, 6, 1, 3, 5, 7]  # which number of eight stands at each place of a word
_NAMES = {
    "float32": "F32",
    "float16": "F16",
    "int32": "I32",
    "int64": "I64",
    "int8": "I8",
    "uint8": "U8",
    # numbers that NumPy has no name for, as bytes
    "void8": "F8_E4M3",
    "void16": "BF16",
}
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
E2M1 = np.concatenate([E2M1, -E2M1])


def gptq(weight: NDArray[np.float32], *, symmetric: bool = True, mixed: bool = False) -> Packed:
    """GPTQ of 4 bits in its first format; columns of groups may be mixed (act-order)."""
    order = np.random.default_rng(3).permutation(weight.shape[1]) if mixed else None
    groups = np.arange(weight.shape[1]) // GROUP
    if order is not None:
        groups[order] = groups.copy()
    numbers, zeros, scales = _affine(weight, groups, symmetric=symmetric)
    floats = scales.astype(np.float32)[:, groups] * (numbers - zeros[:, groups])
    tensors = {
        "qweight": words_of(numbers.T, axis=0),
        "qzeros": words_of((zeros - 1).T, axis=1),
        "scales": np.ascontiguousarray(scales.T),
        "g_idx": groups.astype(np.int32),
    }
    return tensors, floats.astype(np.float32)


def awq(weight: NDArray[np.float32]) -> Packed:
    """AWQ of 4 bits, layout gemm."""
    groups = np.arange(weight.shape[1]) // GROUP
    numbers, zeros, scales = _affine(weight, groups, symmetric=False)
    floats = scales.astype(np.float32)[:, groups] * (numbers - zeros[:, groups])

    def mixed(columns: NDArray[Any]) -> NDArray[np.int32]:
        return words_of(
            columns.reshape(len(columns), -1, 8)[:, :, _AWQ_COLUMNS].reshape(len(columns), -1),
            axis=1,
        )

    tensors = {
        "qweight": mixed(numbers.T),
        "qzeros": mixed(zeros.T),
        "scales": np.ascontiguousarray(scales.T),
    }
    return tensors, floats.astype(np.float32)


def fp8_blocks(weight: NDArray[np.float32], block: int = 40) -> Packed:
    """E4M3 numbers with a scale for each block, of which the last are not whole."""
    rows, columns = (np.arange(size) // block for size in weight.shape)
    scales = np.zeros((rows[-1] + 1, columns[-1] + 1), np.float32)
    np.maximum.at(scales, (rows[:, None], columns[None, :]), np.abs(weight) / 448)
    spread = scales[rows[:, None], columns[None, :]]
    codes = nearest(weight / spread, e4m3_numbers())
    floats = e4m3_numbers()[codes] * spread
    return {"weight": codes.astype(np.uint8).view("V1"), "weight_scale_inv": scales}, floats


def nvfp4(weight: NDArray[np.float32]) -> Packed:
    """NVFP4 as NVIDIA's Model Optimizer stores it."""
    groups = weight.reshape(len(weight), -1, 16)
    factor = np.float32(np.abs(weight).max() / (6 * 448))
    eights = nearest(np.abs(groups).max(axis=2) / (6 * factor), e4m3_numbers())
    scales = e4m3_numbers()[eights] * factor
    codes = nearest(groups / np.maximum(scales, 1e-30)[:, :, None], E2M1).reshape(weight.shape)
    floats = E2M1[codes].reshape(groups.shape) * scales[:, :, None]
    tensors = {
        "weight": (codes[:, ::2] | codes[:, 1::2] << 4).astype(np.uint8),
        "weight_scale": eights.astype(np.uint8).view("V1"),
        "weight_scale_2": np.array(factor),
        "input_scale": np.array(np.float32(1)),
    }
    return tensors, floats.reshape(weight.shape)


def compressed(weight: NDArray[np.float32]) -> Packed:
    """compressed-tensors' asymmetric int4 with scales in BF16."""
    groups = np.arange(weight.shape[1]) // GROUP
    numbers, zeros, halves = _affine(weight, groups, symmetric=False)
    bits = halves.astype(np.float32).view(np.uint32) >> 16
    scales = (bits << 16).astype(np.uint32).view(np.float32)
    floats = scales[:, groups] * (numbers - zeros[:, groups])
    tensors = {
        "weight_packed": words_of(numbers, axis=1),
        "weight_scale": bits.astype(np.uint16).view("V2"),
        "weight_zero_point": words_of(zeros, axis=0),
        "weight_shape": np.array(weight.shape),
    }
    return tensors, floats.astype(np.float32)


def e4m3_numbers() -> NDArray[np.float32]:
    """All of E4M3, by their bits, one by one from the definition."""
    numbers = []
    for code in range(256):
        sign, exponent, mantissa = (-1) ** (code >> 7), code >> 3 & 15, code & 7
        size = mantissa / 8 * 2**-6 if exponent == 0 else (1 + mantissa / 8) * 2.0 ** (exponent - 7)
        numbers.append(float("nan") if code & 127 == 127 else sign * size)
    return np.array(numbers, np.float32)


def nearest(values: NDArray[np.float32], numbers: NDArray[np.float32]) -> NDArray[np.intp]:
    known = np.where(np.isnan(numbers), np.inf, numbers)
    order = np.argsort(known, kind="stable")
    middles = (known[order][1:] + known[order][:-1]) / 2
    return order[np.searchsorted(middles, values)]


def words_of(numbers: NDArray[Any], *, axis: int, bits: int = 4) -> NDArray[np.int32]:
    """Words of 32 bits of the numbers along an axis, each word's first number lowest."""
    along = np.moveaxis(numbers.astype(np.uint32) & ((1 << bits) - 1), axis, -1)
    each = along.reshape(*along.shape[:-1], -1, 32 // bits)
    words = (each << (np.arange(32 // bits, dtype=np.uint32) * bits)).sum(axis=-1)
    return np.ascontiguousarray(np.moveaxis(words.astype(np.uint32).view(np.int32), -1, axis))


def _affine(
    weight: NDArray[np.float32], groups: NDArray[np.intp], *, symmetric: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float16]]:
    """Numbers of 4 bits (rows, items), zero points and scales (rows, groups)."""
    num_groups = int(groups.max()) + 1
    members = [weight[:, groups == group] for group in range(num_groups)]
    least = np.stack([np.minimum(part.min(axis=1), 0) for part in members], axis=1)
    most = np.stack([np.maximum(part.max(axis=1), 0) for part in members], axis=1)
    if symmetric:
        scales = (np.maximum(-least, most) * 2 / 15).astype(np.float16)
        zeros = np.full(scales.shape, 8)
    else:
        scales = ((most - least) / 15).astype(np.float16)
        zeros = np.clip(np.rint(-least / scales.astype(np.float32)), 1, 15).astype(np.int64)
    spread = scales.astype(np.float32)[:, groups]
    numbers = np.clip(np.rint(weight / spread) + zeros[:, groups], 0, 15).astype(np.int64)
    return numbers, zeros, scales


def write_tensors(path: Path, tensors: Mapping[str, NDArray[Any]]) -> None:
    """Each in its own type."""
    header: dict[str, Any] = {}
    offset = 0
    for name, values in tensors.items():
        span = [offset, offset + values.nbytes]
        header[name] = {
            "dtype": _NAMES[values.dtype.name],
            "shape": values.shape,
            "data_offsets": span,
        }
        offset = span[1]
    encoded = json.dumps(header).encode()
    content = b"".join(np.ascontiguousarray(values).tobytes() for values in tensors.values())
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + content)


def quantize_checkpoint(
    source: Path, tensors: Mapping[str, NDArray[np.float32]], settings: dict[str, Any], pack: Pack
) -> dict[str, NDArray[np.float32]]:
    """Rewrites the weights of a checkpoint's layers as `pack` packs them; returns what they
    stand for, with all others as they are.
    """
    stored: Tensors = {}
    floats: dict[str, NDArray[np.float32]] = {}
    for name, values in tensors.items():
        if values.ndim < 2 or "layers" not in name or ".gate." in name:
            stored[name] = floats[name] = values
            continue
        packed, floats[name] = pack(values)
        stored.update({f"{name.removesuffix('weight')}{part}": of for part, of in packed.items()})
    write_tensors(source / "model.safetensors", stored)
    config = json.loads((source / "config.json").read_text())
    config["quantization_config"] = settings
    (source / "config.json").write_text(json.dumps(config))
    return floats

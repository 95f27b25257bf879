"""bitsandbytes: NF4 and FP4, their scales quantized again or not, and LLM.int8.

Knows no other scheme.

Source: https://github.com/bitsandbytes-foundation/bitsandbytes (functional.py: `QuantState`,
`dequantize_4bit`, `int8_vectorwise_dequant`). Four bits: a matrix's numbers follow one another
without regard to its rows, the first of a byte in its upper four bits, each an index into
`quant_map`, times the `absmax` of its block; which may be an index itself, into
`nested_quant_map`, times the `nested_absmax` of its own block, plus an offset. Computed in
float32, and by the library rounded to its `dtype` then.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convert.config import Config
from convert.dequantize.weight import QuantizedWeight, Shared, all_of, demand
from convert.errors import DamagedCheckpoint, MissingFile, UnsupportedModel
from convert.safetensors_file import StoredTensor, StoredType

_STATE = "weight.quant_state.bitsandbytes__"
_127TH = np.float32(7.874015718698502e-3)  # as the library writes it


@dataclass(frozen=True, kw_only=True)
class FourBitWeight(QuantizedWeight):
    """`parts`: `weight` as bytes, `weight.absmax`, `weight.quant_map`, and where the first is
    quantized itself `weight.nested_absmax`, `weight.nested_quant_map`.
    """

    block_items: int
    nested_items: int
    nested_offset: float

    def matrix_rows(self, start: int, stop: int) -> NDArray[Any]:
        first, last = start * self.shape[-1], stop * self.shape[-1]
        octets = self.parts["weight"].read_rows(first // 2, -(-last // 2)).reshape(-1)
        codes = np.stack([octets >> 4, octets & 15], axis=1).reshape(-1)[first % 2 :]
        codes = codes[: last - first]
        first_block = first // self.block_items
        absmax = self._absmax(first_block, (last - 1) // self.block_items + 1)
        blocks = np.arange(first, last) // self.block_items - first_block
        values: NDArray[np.float32] = all_of(self.parts["weight.quant_map"])[codes]
        values *= absmax[blocks]
        return values.reshape(stop - start, -1)

    def _absmax(self, start: int, stop: int) -> NDArray[np.float32]:
        stored = self.parts["weight.absmax"].read_rows(start, stop).reshape(-1)
        if "weight.nested_absmax" not in self.parts:
            return stored
        blocks = np.arange(start, stop) // self.nested_items
        absmax: NDArray[np.float32] = all_of(self.parts["weight.nested_quant_map"])[stored]
        absmax *= all_of(self.parts["weight.nested_absmax"])[blocks]
        absmax += np.float32(self.nested_offset)
        return absmax


@dataclass(frozen=True, kw_only=True)
class EightBitWeight(QuantizedWeight):
    """`parts`: `weight`, int8, and `SCB`, what each row's largest number stands for."""

    def matrix_rows(self, start: int, stop: int) -> NDArray[Any]:
        values = self.parts["weight"].read_rows(start, stop).astype(np.float32)
        values *= self.parts["SCB"].read_rows(start, stop)
        values *= _127TH
        return values


def bitsandbytes_parts(
    module: str, parts: Mapping[str, StoredTensor], _config: Config, shared: Shared
) -> Mapping[str, StoredTensor]:
    """A module's tensors with its quantized weight as floats.

    Raises `MissingFile`, `DamagedCheckpoint` and `UnsupportedModel` for what cannot be read.
    """
    if "SCB" in parts and "weight" in parts:
        return _eight_bits(parts, shared)
    state_name = next((name for name in parts if name.startswith(_STATE)), None)
    if state_name is None:
        return parts
    rest = {name: tensor for name, tensor in parts.items() if not name.startswith("weight")}
    return {**rest, "weight": _four_bits(module, parts, parts[state_name], shared)}


def _eight_bits(parts: Mapping[str, StoredTensor], shared: Shared) -> dict[str, StoredTensor]:
    codes = demand(parts["weight"], None, StoredType.I8)
    demand(parts["SCB"], codes.shape[:1], StoredType.F32)
    layout = parts.get("weight_format")
    if layout is not None and all_of(layout).any():
        raise UnsupportedModel(
            f"{layout.file.path} has {codes.name} in the layout of a GPU ({layout.name}), which "
            "cannot be read. Use the unquantized checkpoint of this model."
        )
    weight = EightBitWeight(
        name=codes.name,
        stored_type=StoredType.F32,
        shape=codes.shape,
        offset=codes.offset,
        file=codes.file,
        parts={"weight": codes, "SCB": parts["SCB"]},
        shared=shared,
    )
    return {**{name: part for name, part in parts.items() if name != "SCB"}, "weight": weight}


def _four_bits(
    module: str, parts: Mapping[str, StoredTensor], state: StoredTensor, shared: Shared
) -> StoredTensor:
    settings = _read_state(state)
    shape = settings.values.get("shape")
    if not isinstance(shape, list) or not all(type(n) is int and n > 0 for n in shape):
        raise DamagedCheckpoint(f"{settings.path} has shape = {shape!r}.")
    is_nested = "weight.nested_absmax" in parts
    names = ["weight", "weight.absmax", "weight.quant_map"]
    names += ["weight.nested_absmax", "weight.nested_quant_map"] if is_nested else []
    for name in names:
        if name not in parts:
            raise MissingFile(f"The checkpoint does not contain {module}.{name}.")
    kept = {name: parts[name] for name in names}
    # whatever type they are said to be (`bnb_4bit_quant_storage`), they are bytes
    codes, num_items = kept["weight"], math.prod(shape)
    if codes.num_bytes != -(-num_items // 2):
        raise DamagedCheckpoint(
            f"{codes.file.path}: {codes.name} has {codes.num_bytes} bytes for {num_items} numbers "
            "of four bits."
        )
    kept["weight"] = StoredTensor(
        name=codes.name,
        stored_type=StoredType.U8,
        shape=(codes.num_bytes,),
        offset=codes.offset,
        file=codes.file,
    )
    block_items = settings.integer("blocksize")
    nested_items = settings.integer("nested_blocksize", 1)
    num_blocks = -(-num_items // block_items)
    demand(kept["weight.absmax"], (num_blocks,), StoredType.U8 if is_nested else StoredType.F32)
    demand(kept["weight.quant_map"], (16,), StoredType.F32)
    if is_nested:
        demand(kept["weight.nested_absmax"], (-(-num_blocks // nested_items),), StoredType.F32)
        demand(kept["weight.nested_quant_map"], (256,), StoredType.F32)
    return FourBitWeight(
        name=codes.name,
        stored_type=StoredType.F32,
        shape=tuple(shape),
        offset=codes.offset,
        file=codes.file,
        parts=kept,
        shared=shared,
        block_items=block_items,
        nested_items=nested_items,
        nested_offset=float(settings.values.get("nested_offset", 0.0)),
    )


def _read_state(state: StoredTensor) -> Config:
    """The JSON that is stored as the bytes of a tensor."""
    try:
        settings = json.loads(bytes(all_of(demand(state, None, StoredType.U8))))
    except (ValueError, RecursionError) as error:
        raise DamagedCheckpoint(
            f"{state.file.path}: {state.name} is not valid JSON, so the file is incomplete or "
            f"damaged: {error}"
        ) from error
    if not isinstance(settings, dict):
        raise DamagedCheckpoint(f"{state.file.path}: {state.name} is not a JSON object.")
    return Config(f"{state.file.path} ({state.name})", settings)

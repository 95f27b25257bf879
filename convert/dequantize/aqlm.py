"""AQLM: groups of a weight's numbers as sums of entries of learned tables.

Knows no other scheme.

Source: https://github.com/Vahe1994/AQLM (inference_lib/src/aqlm/utils.py: `_dequantize_weight`,
`unpack_int_data`). `codes`, (rows / height, items / width, tables), are unsigned numbers stored as
signed ones; `codebooks`, (tables, entries, height, width), and `scales`, (rows / height, 1, 1, 1),
floats of one type, to which the sum and its product with the scale are each rounded. GGUF has no
blocks for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convert.config import Config
from convert.dequantize.weight import QuantizedWeight, Shared, demand, floats_of
from convert.errors import DamagedCheckpoint, MissingFile
from convert.safetensors_file import StoredTensor, StoredType, as_stored, to_float32

_PARTS = ("codes", "codebooks", "scales")
_UNSIGNED = {StoredType.I8: np.uint8, StoredType.I16: np.uint16}
_FLOATS = (StoredType.F16, StoredType.BF16, StoredType.F32)


@dataclass(frozen=True, kw_only=True)
class AqlmWeight(QuantizedWeight):
    """See the module."""

    @property
    def held_bytes(self) -> int:
        return self.parts["codebooks"].num_bytes

    def matrix_rows(self, start: int, stop: int) -> NDArray[Any]:
        codebooks = self.parts["codebooks"]
        _, num_entries, height, _ = codebooks.shape
        first, last = start // height, (stop - 1) // height + 1
        groups = self.parts["codes"].shape[1]
        stored = self.parts["codes"].read_rows(first * groups, last * groups)
        codes = stored.view(_UNSIGNED[self.parts["codes"].stored_type]) & (num_entries - 1)
        whole = self.shared.whole.read(codebooks).reshape(codebooks.shape)
        sums = np.zeros((len(codes), *codebooks.shape[2:]), np.float32)
        for number, table in enumerate(whole):
            sums += to_float32(table[codes[:, number]], codebooks.stored_type)
        rounded = to_float32(as_stored(sums, self.stored_type), self.stored_type)
        scales = floats_of(self.parts["scales"], first, last)
        scaled = rounded.reshape(last - first, groups, *sums.shape[1:]) * scales[:, :, None, None]
        rows = scaled.swapaxes(1, 2).reshape(-1, self.shape[-1])
        skipped = start - first * height
        return as_stored(np.ascontiguousarray(rows[skipped:][: stop - start]), self.stored_type)


def aqlm_parts(
    module: str, parts: Mapping[str, StoredTensor], _config: Config, shared: Shared
) -> Mapping[str, StoredTensor]:
    """A module's tensors with its quantized weight as floats.

    Raises `MissingFile` for a part that is absent, `DamagedCheckpoint` for shapes that do not
    fit, `UnsupportedModel` for other types of numbers.
    """
    if "codes" not in parts:
        return parts
    for name in _PARTS:
        if name not in parts:
            raise MissingFile(f"The checkpoint does not contain {module}.{name}.")
    codes = demand(parts["codes"], None, *_UNSIGNED)
    codebooks = demand(parts["codebooks"], None, *_FLOATS)
    if len(codes.shape) != 3 or len(codebooks.shape) != 4 or 0 in codes.shape + codebooks.shape:
        raise DamagedCheckpoint(
            f"{codes.file.path}: {codes.name} of shape {list(codes.shape)} and tables of shape "
            f"{list(codebooks.shape)} are no weight in AQLM's form."
        )
    num_tables, num_entries, height, width = codebooks.shape
    demand(codes, (*codes.shape[:2], num_tables))
    most = 1 << codes.stored_type.num_bits
    if num_entries & (num_entries - 1) or num_entries > most:
        raise DamagedCheckpoint(
            f"{codebooks.file.path}: {codebooks.name} has {num_entries} entries, which is no power "
            f"of two up to {most}."
        )
    scales = demand(parts["scales"], (codes.shape[0], 1, 1, 1), codebooks.stored_type)
    weight = AqlmWeight(
        name=f"{module}.weight",
        stored_type=codebooks.stored_type,
        shape=(codes.shape[0] * height, codes.shape[1] * width),
        offset=codes.offset,
        file=codes.file,
        parts={"codes": codes, "codebooks": codebooks, "scales": scales},
        shared=shared,
    )
    return {
        **{name: tensor for name, tensor in parts.items() if name not in _PARTS},
        "weight": weight,
    }

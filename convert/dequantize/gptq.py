"""GPTQ's tensors, of AutoGPTQ and GPTQModel, and AWQ's.

Knows no other scheme.

Layouts: https://github.com/AutoGPTQ/AutoGPTQ (auto_gptq/nn_modules/qlinear) and
https://github.com/casper-hansen/AutoAWQ (awq/utils/packing_utils.py). A weight of `out` rows
and `in` columns lies across: GPTQ's `qweight`, (in bits / 32, out), has words of numbers that
follow one another down a column; AWQ's, (in, out bits / 32), along a row, with the eight of a
word in an order of their own. `qzeros`, (groups, out bits / 32), and `scales`, (groups, out),
belong to groups of `in`; GPTQ's `g_idx`, (in), says to which. A value is a number less its
zero point, times its scale.
"""

from __future__ import annotations

import abc
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convert.config import Config
from convert.dequantize.numbers.bits import WORD_BITS, unpack
from convert.dequantize.numbers.formats import decoded, digits_of
from convert.dequantize.repack import IntegerKind, Integers
from convert.dequantize.weight import IntegerWeight, Shared, demand, matrix_shape
from convert.errors import DamagedCheckpoint, UnsupportedModel
from convert.safetensors_file import StoredTensor, StoredType

_WORDS = (StoredType.I32, StoredType.U32)
# where AWQ's words have their first, second, ... number
_AWQ_ORDER = np.array([0, 4, 1, 5, 2, 6, 3, 7])
_GPTQ_BITS, _AWQ_BITS = (2, 3, 4, 8), (4,)
_GPTQ_FORMATS = {"gptq": 1, "gptq_v2": 0}  # what is to be added to a zero point as stored


@dataclass(frozen=True, kw_only=True)
class CrosswiseWeight(IntegerWeight, abc.ABC):
    """`parts`: `qweight`, `scales`, `qzeros`, and perhaps `g_idx`."""

    bits: int
    group_size: int

    @property
    def held_bytes(self) -> int:
        return sum(part.num_bytes for part in self.parts.values())

    @abc.abstractmethod
    def numbers(self, start: int, stop: int) -> NDArray[np.uint8]:
        """As stored, of the weight's rows `start` to `stop`: (in, stop - start)."""

    @abc.abstractmethod
    def zeros(self, start: int, stop: int) -> NDArray[np.int16]:
        """(groups, stop - start)."""

    def integers(self, start: int, stop: int) -> Integers:
        numbers = self.numbers(start, stop).astype(np.int16)
        zeros, groups = self.zeros(start, stop), self._groups()
        if isinstance(groups, int):
            by_group = numbers.reshape(len(zeros), groups, -1)
            by_group -= zeros[:, None, :]
        else:
            numbers -= zeros[groups]
        scales = self.whole("scales")[:, start:stop]
        floats = decoded(scales, self.parts["scales"].stored_type)
        return Integers(np.ascontiguousarray(numbers.T), np.ascontiguousarray(floats.T), groups)

    def whole(self, part: str) -> NDArray[Any]:
        """A part as stored, read once for many rows."""
        return self.shared.whole.read(self.parts[part])

    def columns(self, part: str, start: int, stop: int) -> NDArray[np.uint8]:
        """The numbers of some columns of a part whose words lie along its rows."""
        first, last = start // WORD_BITS, -(-stop // WORD_BITS)
        words = self.whole(part)[:, first * self.bits : last * self.bits]
        first *= WORD_BITS
        return unpack(words, self.bits)[:, start - first : stop - first]

    def _groups(self) -> int | NDArray[np.intp]:
        in_turn = np.arange(self.shape[-1]) // self.group_size
        is_whole = self.shape[-1] % self.group_size == 0
        if "g_idx" not in self.parts:
            return self.group_size if is_whole else in_turn
        groups = self.whole("g_idx").reshape(-1).astype(np.intp)
        if is_whole and np.array_equal(groups, in_turn):
            return self.group_size
        tensor, num_groups = self.parts["g_idx"], self.parts["scales"].shape[0]
        if is_whole and self.kind.group_items is not None:
            raise DamagedCheckpoint(
                f"{tensor.file.path}: {tensor.name} mixes the columns of groups, but the "
                "quantization_config says that desc_act is false. Set it to true."
            )
        if groups.min() < 0 or groups.max() >= num_groups:
            raise DamagedCheckpoint(
                f"{tensor.file.path}: {tensor.name} has groups {groups.min()} to {groups.max()}, "
                f"but there are {num_groups}."
            )
        return groups


@dataclass(frozen=True, kw_only=True)
class GptqWeight(CrosswiseWeight):
    """See the module."""

    added_to_zeros: int

    def numbers(self, start: int, stop: int) -> NDArray[np.uint8]:
        words = np.ascontiguousarray(self.whole("qweight")[:, start:stop].T)
        numbers: NDArray[np.uint8] = unpack(words, self.bits)[:, : self.shape[-1]].T
        return numbers

    def zeros(self, start: int, stop: int) -> NDArray[np.int16]:
        zeros: NDArray[np.int16] = self.columns("qzeros", start, stop).astype(np.int16)
        zeros += np.int16(self.added_to_zeros)
        return zeros


@dataclass(frozen=True, kw_only=True)
class AwqWeight(CrosswiseWeight):
    """See the module."""

    def numbers(self, start: int, stop: int) -> NDArray[np.uint8]:
        return self.in_order("qweight", start, stop)

    def zeros(self, start: int, stop: int) -> NDArray[np.int16]:
        return self.in_order("qzeros", start, stop).astype(np.int16)

    def in_order(self, part: str, start: int, stop: int) -> NDArray[np.uint8]:
        """The numbers of some columns of a part, each where it belongs."""
        first, last = start // 8 * 8, -(-stop // 8) * 8
        mixed = self.columns(part, first, last)
        ordered = mixed.reshape(len(mixed), -1, 8)[:, :, _AWQ_ORDER].reshape(len(mixed), -1)
        return ordered[:, start - first : stop - first]


@dataclass(frozen=True)
class _Settings:
    """What a quantization_config says of GPTQ's or AWQ's weights."""

    bits: int
    group_size: int  # 0: one group for all columns
    symmetric: bool
    mixes_groups: bool


def of_module(config: Config, module: str) -> Config:
    """The settings of one module, where they differ: GPTQModel's `dynamic`, by an expression
    for names, AutoRound's `extra_config`, by a name.

    Raises `DamagedCheckpoint` for an expression that is none.
    """
    values = dict(config.values)
    for expression, changed in config.section("dynamic").values.items():
        if not isinstance(changed, dict) or expression.startswith("-:"):
            continue
        try:
            is_meant = re.match(expression.removeprefix("+:"), module) is not None
        except re.error as error:
            raise DamagedCheckpoint(
                f"{config.path} (dynamic) has {expression!r}, which is no regular expression: "
                f"{error}."
            ) from error
        if is_meant:
            values.update(changed)
            break
    changed = config.section("extra_config").values.get(module)
    if isinstance(changed, dict):
        values.update(changed)
    return Config(config.path, values)


def _settings(config: Config, known_bits: tuple[int, ...]) -> _Settings:
    bits = config.integer("bits" if "bits" in config else "w_bit", 4)
    if bits not in known_bits:
        raise UnsupportedModel(
            f"{config.path} has bits = {bits}; of this scheme {', '.join(map(str, known_bits))} "
            "can be read. Use the unquantized checkpoint of this model."
        )
    size = config.values.get("group_size", config.values.get("q_group_size", 128))
    if not isinstance(size, int) or size < -1:
        raise DamagedCheckpoint(f"{config.path} has group_size = {size!r}; it must be a number.")
    return _Settings(bits, max(size, 0), config.flag("sym", False), config.flag("desc_act", False))


def gptq_weight(
    name: str, parts: Mapping[str, StoredTensor], config: Config, shared: Shared
) -> StoredTensor:
    """The weight `name` from `qweight`, `qzeros`, `scales` and `g_idx`.

    `checkpoint_format` says whether zero points are stored less one ("gptq", the first
    version) or as they are ("gptq_v2"). Raises `UnsupportedModel` for other formats and
    numbers of bits, `DamagedCheckpoint` for shapes that do not fit.
    """
    settings = _settings(config, _GPTQ_BITS)
    version = config.text("checkpoint_format", "gptq")
    if version not in _GPTQ_FORMATS:
        raise UnsupportedModel(
            f"{config.path} has checkpoint_format = {version!r}; of GPTQ's, "
            f"{', '.join(_GPTQ_FORMATS)} can be read. Use the unquantized checkpoint."
        )
    words, num_rows = matrix_shape(parts["qweight"])
    row_items = words * WORD_BITS // settings.bits
    added = _GPTQ_FORMATS[version]
    group_size = settings.group_size or row_items
    _check_shapes(parts, settings.bits, num_rows, -(-row_items // group_size))
    kept = dict(parts)
    if "g_idx" in kept:
        demand(kept["g_idx"], (row_items,), StoredType.I32, StoredType.I64)
    middle, most = 1 << (settings.bits - 1), (1 << settings.bits) - 1
    return GptqWeight(
        **_place(name, parts["qweight"], (num_rows, row_items)),
        parts=kept,
        shared=shared,
        kind=IntegerKind(
            low=-middle if settings.symmetric else -(most + added),
            high=most - (middle if settings.symmetric else added),
            bits=settings.bits,
            scale_digits=digits_of(parts["scales"].stored_type),
            group_items=None if settings.mixes_groups and "g_idx" in kept else group_size,
        ),
        bits=settings.bits,
        group_size=group_size,
        added_to_zeros=added,
    )


def awq_weight(
    name: str, parts: Mapping[str, StoredTensor], config: Config, shared: Shared
) -> StoredTensor:
    """The weight `name` from `qweight`, `qzeros` and `scales` in AutoAWQ's "gemm" layout.

    Raises as `gptq_weight`.
    """
    version = config.text("version", "gemm").lower()
    if version != "gemm":
        raise UnsupportedModel(
            f"{config.path} has version = {version!r}; of AWQ's layouts only 'gemm' can be read. "
            "Use the unquantized checkpoint of this model."
        )
    settings = _settings(config, _AWQ_BITS)
    row_items, words = matrix_shape(parts["qweight"])
    num_rows = words * WORD_BITS // settings.bits
    group_size = settings.group_size or row_items
    _check_shapes(parts, settings.bits, num_rows, -(-row_items // group_size))
    return AwqWeight(
        **_place(name, parts["qweight"], (num_rows, row_items)),
        parts=parts,
        shared=shared,
        kind=IntegerKind(
            low=-15,
            high=15,
            bits=settings.bits,
            scale_digits=digits_of(parts["scales"].stored_type),
            group_items=group_size,
        ),
        bits=settings.bits,
        group_size=group_size,
    )


def _check_shapes(
    parts: Mapping[str, StoredTensor], bits: int, num_rows: int, num_groups: int
) -> None:
    demand(parts["qweight"], None, *_WORDS)
    demand(parts["qzeros"], (num_groups, num_rows * bits // WORD_BITS), *_WORDS)
    floats = (StoredType.F16, StoredType.BF16, StoredType.F32)
    demand(parts["scales"], (num_groups, num_rows), *floats)


def _place(name: str, tensor: StoredTensor, shape: tuple[int, int]) -> dict[str, Any]:
    return {
        "name": name,
        "stored_type": StoredType.F32,
        "shape": shape,
        "offset": tensor.offset,
        "file": tensor.file,
    }

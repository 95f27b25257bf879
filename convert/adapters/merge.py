"""An adapter merged into a model's weights, row by row, as PEFT merges it.

Knows no model family and no GGUF.

PEFT adds B A times the scale, in float32, to the weight, and rounds the sum to the type
that the weight is stored in; of an embedding it rounds what it adds as well
(peft/tuners/lora/layer.py, `get_delta_weight` and `merge`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convert.adapters.expert_parameters import way_out
from convert.adapters.peft import CONFIG_FILE, LoraPair, PeftAdapter
from convert.errors import BadInput, DamagedCheckpoint, UnsupportedModel
from convert.safetensors_file import StoredTensor, as_stored, to_float32


@dataclass(frozen=True, kw_only=True)
class MergedTensor(StoredTensor):
    """A weight of a checkpoint with an adapter's part added when it is read."""

    base: StoredTensor
    pair: LoraPair
    scale: float
    lies_across: bool  # with what goes in along the rows

    def read_rows(self, start: int, stop: int) -> NDArray[Any]:
        own = to_float32(self._own(start, stop), self.stored_type)
        return as_stored(own + self._added(start, stop), self.stored_type)

    @property
    def held_bytes(self) -> int:
        return self.base.held_bytes

    def _own(self, start: int, stop: int) -> NDArray[Any]:
        if len(self.shape) < len(self.base.shape):  # a matrix of one row, read as a vector
            return self.base.read_rows(0, 1).reshape(-1, 1)[start:stop]
        return self.base.read_rows(start, stop)

    def _added(self, start: int, stop: int) -> NDArray[np.float32]:
        pair = self.pair
        a = _values(pair.a, 0, pair.rank)
        if len(self.shape) == 1:  # a matrix of one row, which is a vector in the GGUF
            left, right = a[:, start:stop].T, _values(pair.b, 0, 1).T
        elif pair.is_embedding or self.lies_across:
            left, right = a[:, start:stop].T, _values(pair.b, 0, pair.b.shape[0]).T
        else:
            left, right = _values(pair.b, start, stop), a
        added: NDArray[np.float32] = (left @ right) * np.float32(self.scale)
        if pair.is_embedding:
            added = to_float32(as_stored(added, self.stored_type), self.stored_type)
        return added


def merged(
    stored: Mapping[str, StoredTensor],
    *,
    adapter: PeftAdapter,
    scale: float,
    spelled: Callable[[str], str],
    across: Callable[[str], bool],
) -> dict[str, StoredTensor]:
    """`stored` with the adapter added, times `scale` and its own; `spelled` gives the
    names that `stored` has, and `across` says which of these lie on their side.

    Raises `UnsupportedModel` for a module that the model has not and for a weight of the
    adapter's own, `DamagedCheckpoint` for one of another shape.
    """
    result = dict(stored)
    check_whole_weights(adapter, stored, spelled)
    for name in adapter.beyond:
        if spelled(name) in stored:
            raise DamagedCheckpoint(
                f"{adapter.directory} adapts fewer experts than the model has: there is "
                f"{spelled(name)}. It is an adapter for another model, or its {CONFIG_FILE} has "
                "another rank than it was trained with."
            )
    if not (math.isfinite(scale) and scale > 0):
        raise BadInput(f"An adapter's scale must be above 0 (got {scale}).")
    for pair in adapter.pairs.values():
        name = spelled(pair.weight)
        weight = stored.get(name)
        if weight is None:
            raise UnsupportedModel(
                f"{adapter.directory} adapts {name}, which the checkpoint does not contain. It is "
                "an adapter for another model, or one whose head is its embedding once more."
                f"{way_out(name)}"
            )
        check_shape(adapter, pair, weight.shape, lies_across=across(name))
        if not weight.stored_type.holds_weights:
            continue  # refused when it is read
        result[name] = MergedTensor(
            name=weight.name,
            stored_type=weight.stored_type,
            shape=weight.shape,
            offset=weight.offset,
            file=weight.file,
            base=weight,
            pair=pair,
            scale=pair.scale * scale,
            lies_across=across(name),
        )
    return result


def check_whole_weights(
    adapter: PeftAdapter,
    stored: Mapping[str, StoredTensor],
    spelled: Callable[[str], str],
) -> None:
    """Raises `UnsupportedModel` where a whole weight that the adapter has too is not the
    model's own (embeddings that were trained, or made longer).
    """
    for name, whole in adapter.whole_weights.items():
        own = stored.get(spelled(name))
        if own is None or not own.equals(whole):
            raise adapter.holds_more(whole.name)


def check_shape(
    adapter: PeftAdapter, pair: LoraPair, shape: tuple[int, ...], *, lies_across: bool
) -> None:
    """Raises `DamagedCheckpoint` where a pair does not fit a weight of this shape."""
    wanted = pair.weight_shape[::-1] if lies_across else pair.weight_shape
    if shape != wanted:
        raise DamagedCheckpoint(
            f"{adapter.directory} adapts {pair.weight} as {list(wanted)}, but the "
            f"model's is {list(shape)}: it is an adapter for another model."
        )


def _values(tensor: StoredTensor, start: int, stop: int) -> NDArray[np.float32]:
    return to_float32(tensor.read_rows(start, stop), tensor.stored_type)

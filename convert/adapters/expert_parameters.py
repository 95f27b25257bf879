"""Adapters of all experts of a layer at once, taken apart into one pair for each matrix.

Knows no model family.

transformers 5 holds the experts of a layer in two tensors, `gate_up_proj` and `down_proj`, which
PEFT adapts as parameters (`target_parameters`; peft/tuners/lora/layer.py, `ParamWrapper`). A has
the rows of all experts one after the other, [experts * rank, in]; B the columns of all experts
rank by rank, [out, rank * experts], of gates and ups one above the other. The wrapper of
`gate_up_proj`, which a model has first, lies inside that of `down_proj` where both are adapted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convert.safetensors_file import StoredTensor

GATE_UP, DOWN = "gate_up_proj", "down_proj"
_EXPERT = re.compile(r"\.experts\.\d+\.")
_INSIDE, _EXPERTS = ".base_layer", "experts"


@dataclass(frozen=True, kw_only=True)
class _Part(StoredTensor):
    """Some rows of a tensor, and every `step`-th of its columns."""

    whole: StoredTensor
    first_row: int
    first_column: int
    step: int

    def read_rows(self, start: int, stop: int) -> NDArray[Any]:
        rows = self.whole.read_rows(self.first_row + start, self.first_row + stop)
        return np.ascontiguousarray(rows[:, self.first_column :: self.step])


def adapted_parameter(module: str, targets: Sequence[str]) -> str | None:
    """Which of both tensors a module's pair is for, by the module's name in the adapter and its
    `target_parameters`; None for a pair of a single matrix.
    """
    inside = module.endswith(_INSIDE)
    if module.removesuffix(_INSIDE).rpartition(".")[2] != _EXPERTS:
        return None
    names = {target.rpartition(".")[2] for target in targets}
    if inside or DOWN not in names:
        return GATE_UP if GATE_UP in names else None
    return DOWN


def way_out(weight: str) -> str:
    """What to do where the model has no such weight; nothing for one that is no expert's."""
    if _EXPERT.search(weight) is None:
        return ""
    return (
        " If it is this model's, whose experts are stored otherwise than one by one, merge it "
        "(peft: merge_and_unload, then save_pretrained) and convert the result."
    )


def own_module(module: str) -> str:
    """The experts' own name, for both wrappers."""
    return module.removesuffix(_INSIDE)


def projections(parameter: str) -> tuple[str, ...]:
    """What a tensor holds of each expert, from its first row on."""
    return ("gate_proj", "up_proj") if parameter == GATE_UP else (DOWN,)


def pairs_of_experts(
    module: str, parameter: str, a: StoredTensor, b: StoredTensor, rank: int
) -> Iterator[tuple[str, StoredTensor, StoredTensor]]:
    """The weight, A and B of each expert; `rank` is one's, and divides the rows of A."""
    count = a.shape[0] // rank
    names = projections(parameter)
    height = b.shape[0] // len(names)
    for expert in range(count):
        own_a = _part(a, (rank, a.shape[1]), first_row=expert * rank)
        for index, name in enumerate(names):
            own_b = _part(
                b, (height, rank), first_row=index * height, first_column=expert, step=count
            )
            yield f"{module}.{expert}.{name}.weight", own_a, own_b


def _part(
    whole: StoredTensor,
    shape: tuple[int, int],
    *,
    first_row: int,
    first_column: int = 0,
    step: int = 1,
) -> _Part:
    return _Part(
        name=whole.name,
        stored_type=whole.stored_type,
        shape=shape,
        offset=whole.offset,
        file=whole.file,
        whole=whole,
        first_row=first_row,
        first_column=first_column,
        step=step,
    )

"""A GGUF of random weights with the vocabulary of another file. Knows no architecture.

The same tensors always get the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from gguf import GGUFReader, GGUFValueType, GGUFWriter

Shape = tuple[int, ...]
Shapes = dict[str, Shape]
Weights = npt.NDArray[np.floating[npt.NBitBase]]
# (name, shape, where chance comes from) -> a tensor
MakeWeights = Callable[[str, Shape, np.random.Generator], Weights]


def num_vocab(vocabulary: Path) -> int:
    return len(GGUFReader(vocabulary).fields["tokenizer.ggml.tokens"].contents())


def of_blocks(blocks: list[Shapes]) -> Shapes:
    """Under the names that tensors of a block have in a file."""
    found: Shapes = {}
    for at, block in enumerate(blocks):
        found |= {f"blk.{at}.{name}": shape for name, shape in block.items()}
    return found


def write_random(
    gguf: GGUFWriter, vocabulary: Path, shapes: Mapping[str, Shape], make: MakeWeights
) -> None:
    """Ends a file whose own keys were added."""
    for field in GGUFReader(vocabulary).fields.values():
        if field.name.startswith("tokenizer."):
            kind = field.types[0]
            inner = field.types[-1] if kind == GGUFValueType.ARRAY else None
            gguf.add_key_value(field.name, field.contents(), kind, inner)
    chance = np.random.default_rng(1)
    for name, shape in shapes.items():
        gguf.add_tensor(name, make(name, shape, chance))
    gguf.write_header_to_file()
    gguf.write_kv_data_to_file()
    gguf.write_tensors_to_file()
    gguf.close()

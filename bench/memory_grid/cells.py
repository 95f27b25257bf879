"""Which servers the grid starts: model shapes, quantizations, contexts, KV types.

Knows no measuring.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.store.synthetic import RandomShape, write_random_model
from bench.memory_kinds import KINDS, SMALL

SLOTS = 4
# tokens of each slot: the pool has four times as many cells, and all are used
CONTEXTS = (512, 1024, 2560)
KV_TYPES = ("f16", "q8_0", "q4_0")
KIND_KV_TYPES = ("f16", "q8_0")
TYPES = ("Q8_0", "Q4_K", "Q2_K")


@dataclass(frozen=True)
class GridShape:
    """A model to serve."""

    name: str
    shape: RandomShape
    held_out: bool  # nothing was known of it when the formulas were made


def _llama(layers: int, embd: int, ff: int, heads: int, kv_heads: int, vocab: int) -> RandomShape:
    return RandomShape(
        num_layers=layers, embd=embd, ff=ff, heads=heads, kv_heads=kv_heads, vocab=vocab, ctx=8192
    )


SHAPES = (
    GridShape("small", _llama(6, 256, 768, 8, 4, 4096), held_out=False),
    GridShape("wide", _llama(3, 1024, 4096, 16, 4, 32_000), held_out=False),
    GridShape("many words", _llama(4, 512, 1536, 8, 8, 128_256), held_out=False),
    GridShape("deep", _llama(20, 512, 1280, 8, 2, 32_000), held_out=False),
    GridShape("every head its own", _llama(5, 768, 2048, 12, 12, 50_000), held_out=True),
    GridShape("wider", _llama(3, 1536, 5632, 12, 4, 65_536), held_out=True),
)


_KIND_VOCABULARY = GridShape("kinds' words", _llama(1, 256, 256, 4, 4, 32_000), held_out=True)


@dataclass(frozen=True)
class GridKind:
    """A model whose sequences share no cells, of `bench.memory_kinds`, with F16 matrices."""

    name: str
    held_out: bool = True

    @property
    def shape(self) -> RandomShape:
        """Of its vocabulary."""
        return _KIND_VOCABULARY.shape


@dataclass(frozen=True)
class Cell:
    """One server of the grid."""

    shape: GridShape | GridKind
    type_name: str
    ctx: int  # tokens
    kv_type: str

    @property
    def kv_cells(self) -> int:
        return self.ctx * SLOTS

    def model(self, folder: Path) -> Path:
        """The file to serve, written where it is not there yet."""
        path = folder / f"{self.shape.name.replace(' ', '-')}-{self.type_name}.gguf"
        if path.exists():
            return path
        if isinstance(self.shape, GridShape):
            write_random_model(path, self.shape.shape, self.type_name)
            return path
        words = Cell(_KIND_VOCABULARY, "Q8_0", self.ctx, self.kv_type).model(folder)
        partial = path.with_suffix(".partial")
        KINDS[self.shape.name](words, partial, SMALL)
        return partial.rename(path)


def grid(names: Sequence[str]) -> Iterator[Cell]:
    """All cells of the shapes and kinds of these names; of all if there are none."""
    for shape in SHAPES:
        if not names or shape.name in names:
            for type_name, ctx, kv_type in itertools.product(TYPES, CONTEXTS, KV_TYPES):
                yield Cell(shape, type_name, ctx, kv_type)
    for kind in map(GridKind, KINDS):
        if not names or kind.name in names:
            for ctx, kv_type in itertools.product((CONTEXTS[0], CONTEXTS[-1]), KIND_KV_TYPES):
                yield Cell(kind, "F16", ctx, kv_type)

"""What describes a model family, and how that description meets a checkpoint's tensors. Knows no family by name."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from convert.config import Config
from convert.errors import DamagedCheckpoint, MissingFile, UnsupportedModel
from convert.gguf_header import Field
from convert.safetensors_file import StoredTensor
from convert.tensors import InterleavedHeads, OutputTensor, Plain, RowSource


class Rows(enum.Enum):
    """What happens to a tensor's rows on their way."""

    KEEP = "keep"
    INTERLEAVE_HEADS = "interleave heads"  # see `InterleavedHeads`


@dataclass(frozen=True)
class TensorRule:
    """One kind of tensor: GGUF name, checkpoint name, shape in words of `Hyperparameters.sizes`.

    `{layer}` in both names stands for each layer's number. `needs` names a feature without which the tensor does not
    exist.
    """

    target: str
    source: str
    shape: tuple[str, ...]
    rows: Rows = Rows.KEEP
    needs: str | None = None

    @property
    def is_per_layer(self) -> bool:
        return "{layer}" in self.target


@dataclass(frozen=True)
class Hyperparameters:
    """A config read by its family.

    `sizes` gives the words in the rules' shapes their numbers; `features` switches rules on; `computed` are tensors
    made from the config alone; `unused` are patterns of checkpoint tensors that are rightly left out.
    """

    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    sizes: Mapping[str, int]
    features: frozenset[str]
    fields: tuple[Field, ...]
    computed: tuple[OutputTensor, ...] = ()
    unused: tuple[str, ...] = ()


@dataclass(frozen=True)
class Family:
    """`name` is llama.cpp's; `architectures` are the names in config.json that this family reads."""

    name: str
    architectures: tuple[str, ...]
    rules: tuple[TensorRule, ...]
    read_config: Callable[[Config, frozenset[str]], Hyperparameters]


def map_tensors(family: Family, hyper: Hyperparameters, stored: Mapping[str, StoredTensor]) -> list[OutputTensor]:
    """Every tensor of the GGUF, in file order.

    Raises `MissingFile` for a tensor that should be there, `DamagedCheckpoint` for a shape other than the config's, and
    `UnsupportedModel` for a tensor that has no place.
    """
    mapped = list(hyper.computed)
    used = set()
    for target, source, rule in _expand(family, hyper):
        tensor = _find(source, rule, hyper, stored)
        used.add(source)
        mapped.append(OutputTensor(target, tensor.shape, _rows(tensor, rule, hyper)))
    _check_leftovers(set(stored) - used, hyper, family)
    return mapped


def _expand(family: Family, hyper: Hyperparameters) -> Iterator[tuple[str, str, TensorRule]]:
    rules = [rule for rule in family.rules if rule.needs is None or rule.needs in hyper.features]
    for rule in rules:
        if not rule.is_per_layer:
            yield rule.target, rule.source, rule
    for layer in range(hyper.num_layers):
        for rule in rules:
            if rule.is_per_layer:
                yield rule.target.format(layer=layer), rule.source.format(layer=layer), rule


def _find(name: str, rule: TensorRule, hyper: Hyperparameters, stored: Mapping[str, StoredTensor]) -> StoredTensor:
    if name not in stored:
        raise MissingFile(f"The checkpoint lacks the tensor {name}, which its config.json calls for.")
    expected = tuple(hyper.sizes[word] for word in rule.shape)
    if stored[name].shape != expected:
        raise DamagedCheckpoint(
            f"{stored[name].file.path}: {name} has shape {list(stored[name].shape)}, config.json says {list(expected)}."
        )
    return stored[name]


def _rows(tensor: StoredTensor, rule: TensorRule, hyper: Hyperparameters) -> RowSource:
    if rule.rows is Rows.INTERLEAVE_HEADS:
        return InterleavedHeads(tensor, hyper.head_dim)
    return Plain(tensor)


def _check_leftovers(names: set[str], hyper: Hyperparameters, family: Family) -> None:
    leftover = sorted(name for name in names if not any(fnmatchcase(name, p) for p in hyper.unused))
    if leftover:
        raise UnsupportedModel(
            f"The checkpoint holds {len(leftover)} tensors that a {family.name} model has no place for; "
            f"the first: {leftover[0]}."
        )

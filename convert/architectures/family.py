"""What describes a model family, and how that description meets a checkpoint's tensors.

Knows no family by name.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import partial
from typing import Protocol

from convert.architectures.arrangement import (
    Arranged,
    Factors,
    NegatedExp,
    Order,
    Scaled,
    Transposed,
)
from convert.architectures.drafts import chosen_drafts
from convert.architectures.embedding_rows import with_rows_of
from convert.architectures.wrappers import unwrapped
from convert.config import Config
from convert.errors import DamagedCheckpoint, MissingFile, UnsupportedModel
from convert.gguf.header import Field
from convert.safetensors_file import StoredTensor, unreadable
from convert.source.buffers import buffer_notes, counted, is_buffer
from convert.tensors import InterleavedHeads, OnePlus, OutputTensor, Plain, RowSource, Stacked


class Rows(enum.Enum):
    """What happens to a tensor's rows on their way."""

    KEEP = "keep"
    INTERLEAVE_HEADS = "interleave heads"  # see `InterleavedHeads`
    ONE_PLUS = "one plus"  # see `OnePlus`
    VECTOR = "vector"  # the checkpoint's matrix of a single row is a vector in the GGUF
    NEGATED_EXP = "minus the exponential"  # see `NegatedExp`
    TRANSPOSE = "transpose"  # see `Transposed`; after rows and columns were chosen


@dataclass(frozen=True, kw_only=True)
class TensorRule:
    """One kind of tensor; `{layer}` in both names stands for each layer's number."""

    target: str  # name in the GGUF
    # name in the checkpoint; `{expert}` stands for each expert's (or other part's) number,
    # whose matrices are stacked along the first axis of `shape`
    source: str
    shape: tuple[str, ...]  # in the checkpoint, in words of `Hyperparameters.sizes`
    rows: Rows = Rows.KEEP
    # a feature without which the tensor does not exist, of the model or of the layer
    needs: str | None = None
    order: str | None = None  # which rows are taken, in words of `Hyperparameters.orders`
    columns: str | None = None  # the same of columns
    scale: str | None = None  # by what rows are multiplied, in words of `Hyperparameters.scales`
    becomes: tuple[str, ...] | None = None  # the shape in the GGUF where it is another

    @property
    def is_per_layer(self) -> bool:
        return "{layer}" in self.target

    @property
    def is_per_expert(self) -> bool:
        return "{expert}" in self.source

    @property
    def lies_across(self) -> bool:
        """Whether it is a whole matrix on its side."""
        parts = self.order or self.columns or self.becomes
        return self.rows is Rows.TRANSPOSE and len(self.shape) == 2 and not parts


_HEAD_HINT = (
    " If the model uses its embedding for that, set tie_word_embeddings to true in config.json; "
    "if it makes embeddings, modules.json and 1_Pooling/config.json of its repository are missing."
)
_EMBEDDING = "token_embd.weight"
MAX_LAYERS, MAX_EXPERTS = 512, 1024  # llama.cpp's (llama-hparams.h); it aborts beyond


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """A config read by its family."""

    num_layers: int  # with those that draft
    num_heads: int
    num_kv_heads: int
    head_dim: int
    sizes: Mapping[str, int]  # the numbers for the words in the rules' shapes
    features: frozenset[str]  # switch rules on
    fields: tuple[Field, ...]
    # of layers that differ: what each has beside `features`, and its own `sizes`
    layer_features: Sequence[frozenset[str]] = ()
    layer_sizes: Sequence[Mapping[str, int]] = ()
    orders: Mapping[str, Order] = field(default_factory=dict)
    scales: Mapping[str, Factors] = field(default_factory=dict)
    computed: tuple[OutputTensor, ...] = ()  # made from the config alone
    unused: tuple[str, ...] = ()  # patterns of checkpoint tensors that are rightly left out
    # checkpoint tensors that may be left out only because they equal another
    copies: Mapping[str, str] = field(default_factory=dict)
    num_experts: int = 0  # of a dense model
    # the last layers, which predict one token more and draft for the others
    num_draft_layers: int = 0
    notes: tuple[str, ...] = ()  # sentences on what the GGUF does otherwise than the config says

    def __post_init__(self) -> None:
        if self.num_layers > MAX_LAYERS or self.num_experts > MAX_EXPERTS:
            raise UnsupportedModel(
                f"llama.cpp supports at most {MAX_LAYERS} layers and {MAX_EXPERTS} experts, but "
                f"config.json asks for {self.num_layers} and {self.num_experts}."
            )

    def has(self, feature: str | None, layer: int) -> bool:
        """Whether a rule that needs `feature` applies to a layer, or to the model."""
        of_layer = self.layer_features[layer] if layer < len(self.layer_features) else ()
        return feature is None or feature in self.features or feature in of_layer

    def shape(self, words: Sequence[str], layer: int) -> tuple[int, ...]:
        own = self.layer_sizes[layer] if layer < len(self.layer_sizes) else {}
        return tuple(own.get(word, self.sizes.get(word, 0)) for word in words)


@dataclass(frozen=True, kw_only=True)
class Family:
    """Models that one graph of llama.cpp computes,
    and how a checkpoint of them is read.
    """

    name: str  # llama.cpp's
    models: str  # as people know them, for the table in docs/guide/convert.md
    architectures: tuple[str, ...]  # names in config.json
    # those of the same layers without a head, which make embeddings and nothing else
    headless: tuple[str, ...] = ()
    model_types: tuple[str, ...]  # `model_type` in config.json, for those without architectures
    rules: tuple[TensorRule, ...]
    read_config: Callable[[Config, frozenset[str]], Hyperparameters]
    # (pattern, replacement) pairs that turn publishers' tensor names into those of the
    # rules; the first that matches a name is applied
    spellings: tuple[tuple[str, str], ...] = ()
    # of the layers that draft, whose tensors' names start with `drafts.DRAFT_PREFIX`
    draft_rules: tuple[TensorRule, ...] = ()
    # where config.json describes it, if not in its own keys: a section in a section
    sections: tuple[str, ...] = ()
    # the family that reads some of the models of these names instead
    variant: Callable[[Config], Family | None] | None = None


class Change(Protocol):
    """Puts other tensors in the place of a checkpoint's, which have the names of the rules,
    as `spelled` gives them; `across` says of a name whether it is a matrix on its side.
    """

    def __call__(
        self,
        stored: Mapping[str, StoredTensor],
        *,
        spelled: Callable[[str], str],
        across: Callable[[str], bool],
    ) -> dict[str, StoredTensor]: ...


def read_model(
    family: Family,
    config: Config,
    stored: Mapping[str, StoredTensor],
    change: Change | None = None,
    *,
    drafts: bool = False,
) -> tuple[Hyperparameters, list[OutputTensor]]:
    """The hyper-parameters, and every tensor of the GGUF in file order. With `drafts`, the
    layers that draft for the model are among them.

    Raises `MissingFile` for a tensor that should be there, `DamagedCheckpoint` for a
    shape other than the config's, and `UnsupportedModel` for a tensor that has no place
    or a config that llama.cpp would compute differently.
    """
    spelled, draft_notes = chosen_drafts(
        _spell(family, stored), family.models, can_draft=bool(family.draft_rules), drafts=drafts
    )
    if change is not None:
        spelled = change(
            spelled, spelled=partial(spelled_name, family), across=partial(lies_across, family)
        )
    embedding = next((rule.source for rule in family.rules if rule.target == _EMBEDDING), "")
    config, row_notes = with_rows_of(spelled.get(embedding), config, family.sections)
    hyper = family.read_config(config, frozenset(spelled))
    mapped = list(hyper.computed)
    used: set[str] = set()
    for rule, layer in expand(family, hyper):
        sources = source_names(rule, layer, hyper)
        used.update(sources)
        expected = hyper.shape(rule.shape[rule.is_per_expert :], layer)
        tensors = [_find(name, expected, spelled) for name in sources]
        mapped.append(_output_tensor(rule, layer, tensors, hyper))
    _check_copies(hyper, spelled)
    left = {name: spelled[name] for name in sorted(set(spelled) - used - hyper.copies.keys())}
    buffers = [name for name, tensor in left.items() if is_buffer(tensor)]
    _check_leftovers(left.keys() - set(buffers), hyper, family, spelled.keys())
    unexpected = [name for name in buffers if not _is_unused(name, hyper)]
    notes = (*row_notes, *hyper.notes, *draft_notes, *buffer_notes(unexpected))
    return replace(hyper, notes=notes), mapped


def spelled_name(family: Family, name: str) -> str:
    """A tensor's name as the family's rules have it."""
    for pattern, replacement in family.spellings:
        common, count = re.subn(pattern, replacement, name)
        if count:
            return common
    return name


def lies_across(family: Family, name: str) -> bool:
    """Whether the checkpoint holds a module's weight, of this name in the rules, with what goes
    in along its rows (GPT-2's Conv1D).
    """
    pattern = re.sub(r"\d+", "{layer}", name, count=1)
    return any(rule.source == pattern and rule.lies_across for rule in family.rules)


def _spell(family: Family, stored: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    spelled: dict[str, StoredTensor] = {}
    for name, tensor in unwrapped(stored).items():
        common = spelled_name(family, name)
        if common in spelled:
            raise DamagedCheckpoint(
                f"The checkpoint contains {common} twice, as {spelled[common].name} and as {name}."
            )
        spelled[common] = tensor
    return spelled


def expand(family: Family, hyper: Hyperparameters) -> Iterator[tuple[TensorRule, int]]:
    """The rules that apply, with the layer they apply
    to (0 for what lies outside the layers).
    """
    for rule in family.rules:
        if not rule.is_per_layer and (rule.needs is None or rule.needs in hyper.features):
            yield rule, 0
    num_answering = hyper.num_layers - hyper.num_draft_layers
    for layer in range(hyper.num_layers):
        for rule in family.rules if layer < num_answering else family.draft_rules:
            if rule.is_per_layer and hyper.has(rule.needs, layer):
                yield rule, layer


def source_names(rule: TensorRule, layer: int, hyper: Hyperparameters) -> list[str]:
    """What a rule's tensors are called in the checkpoint: one, or one for each expert."""
    experts = range(hyper.shape(rule.shape, layer)[0] if rule.is_per_expert else 1)
    return [rule.source.format(layer=layer, expert=expert) for expert in experts]


def _find(name: str, expected: tuple[int, ...], stored: Mapping[str, StoredTensor]) -> StoredTensor:
    if name not in stored:
        raise MissingFile(
            f"The checkpoint does not contain the tensor {name}, which its config.json requires."
            f"{_HEAD_HINT if name == 'lm_head.weight' else ''}"
        )
    if not stored[name].stored_type.holds_weights:
        raise unreadable(stored[name].file.path, name, stored[name].stored_type.value)
    if stored[name].shape != expected:
        raise DamagedCheckpoint(
            f"{stored[name].file.path}: {name} has shape {list(stored[name].shape)}, but "
            f"config.json implies {list(expected)}."
        )
    return stored[name]


def _output_tensor(
    rule: TensorRule, layer: int, tensors: Sequence[StoredTensor], hyper: Hyperparameters
) -> OutputTensor:
    name, shape = rule.target.format(layer=layer), tensors[0].shape
    if rule.becomes is not None:
        shape = hyper.shape(rule.becomes, layer)
    elif rule.rows is Rows.VECTOR:
        shape = shape[-1:]
    elif rule.rows is Rows.TRANSPOSE:
        shape = (*shape[:-2], shape[-1], shape[-2])
    elif rule.order is not None:
        shape = (len(hyper.orders[rule.order]), *shape[1:])
    elif rule.is_per_expert:
        shape = (len(tensors), *shape)
    source = _row_source(rule, tensors, shape, hyper)
    if rule.scale is not None:
        source = Scaled(source, hyper.scales[rule.scale])
    return OutputTensor(name, shape, source)


def _row_source(
    rule: TensorRule,
    tensors: Sequence[StoredTensor],
    shape: tuple[int, ...],
    hyper: Hyperparameters,
) -> RowSource:
    if rule.is_per_expert:
        if len({tensor.stored_type for tensor in tensors}) > 1:
            raise UnsupportedModel(
                f"The experts of one layer ({tensors[0].name}, ...) are stored in different types."
            )
        if len(shape) == 2:  # vectors become rows
            tensors = [replace(tensor, shape=(1, *tensor.shape)) for tensor in tensors]
        return Stacked(tuple(tensors))
    tensor = tensors[0]
    if math.prod(shape) == math.prod(tensor.shape) and rule.rows is not Rows.TRANSPOSE:
        tensor = replace(tensor, shape=shape)  # the same numbers
    order = None if rule.order is None else hyper.orders[rule.order]
    columns = None if rule.columns is None else hyper.orders[rule.columns]
    if order is None and columns is None and rule.rows is not Rows.TRANSPOSE:
        return row_source(rule, tensor, hyper.head_dim)
    arranged = Arranged(tensor, order, columns)
    match rule.rows:
        case Rows.TRANSPOSE:
            return Transposed(arranged, rows=shape[-1], columns=shape[-2])
        case Rows.NEGATED_EXP:
            return NegatedExp(arranged)
        case _:
            return arranged


def row_source(rule: TensorRule, tensor: StoredTensor, head_dim: int) -> RowSource:
    """The rows of a matrix in the order, and as what, the rule wants them."""
    match rule.rows:
        case Rows.INTERLEAVE_HEADS:
            return InterleavedHeads(tensor, head_dim)
        case Rows.ONE_PLUS:
            return OnePlus(tensor)
        case Rows.NEGATED_EXP:
            return NegatedExp(Plain(tensor))
        case _:
            return Plain(tensor)


def _check_copies(hyper: Hyperparameters, stored: Mapping[str, StoredTensor]) -> None:
    for copy, original in hyper.copies.items():
        if not stored[copy].equals(stored[original]):
            raise UnsupportedModel(
                f"config.json says that {copy} and {original} are one matrix "
                "(tie_word_embeddings), but the checkpoint contains two that differ. If the "
                "model was trained with both, set tie_word_embeddings to false in config.json."
            )


def _check_leftovers(
    names: set[str], hyper: Hyperparameters, family: Family, there: Collection[str]
) -> None:
    leftover = sorted(name for name in names if not _is_unused(name, hyper))
    if leftover:
        switch = _unsaid_switch(leftover[0], hyper, family, there)
        raise UnsupportedModel(
            f"The checkpoint contains {counted(leftover)} for which a {family.name} model has no "
            f"place, the first being {leftover[0]}. "
            + (
                f"If the model was trained with them, set {switch} to true in config.json."
                if switch
                else "If they are a head that was only needed for training, save the model "
                "without it."
            )
        )


def _unsaid_switch(
    name: str, hyper: Hyperparameters, family: Family, there: Collection[str]
) -> str | None:
    """The config's key for biases that would have places for `name` and be complete."""
    for switch in {rule.needs for rule in family.rules if rule.needs}:
        if switch.endswith("_bias") and switch not in hyper.features:
            on = replace(hyper, features=hyper.features | {switch})
            theirs = [
                source
                for rule, layer in expand(family, on)
                if rule.needs == switch
                for source in source_names(rule, layer, on)
            ]
            if name in theirs and set(theirs) <= set(there):
                return switch
    return None


def _is_unused(name: str, hyper: Hyperparameters) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in hyper.unused)

"""An adapter as llama.cpp reads it: a GGUF with A and B of each adapted tensor.

Knows no command line.

Keys and names: llama.cpp, src/llama-adapter.cpp. It multiplies B A by alpha / rank.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

from convert.adapters.expert_parameters import way_out
from convert.adapters.merge import check_shape, check_whole_weights
from convert.adapters.peft import LoraPair, PeftAdapter
from convert.adapters.places import Place, places
from convert.architectures import find_family
from convert.architectures.decoder import without_head
from convert.architectures.family import (
    Rows,
    read_model,
    row_source,
    spelled_name,
)
from convert.blocks import BlockWorker, write_blocks
from convert.checkpoint import Checkpoint
from convert.errors import UnsupportedModel
from convert.gguf.cut import plan_file
from convert.gguf.header import f32, lay_out, string
from convert.heads.purpose import find_purpose
from convert.importance.row_weights import RowWeights
from convert.memory import fit_work
from convert.metadata import card_fields
from convert.outputs import OutputPlan, open_output
from convert.quantize import load_ggml_kernel
from convert.safetensors_file import StoredType, to_float32
from convert.source.card import read_card
from convert.tensors import OutputTensor, Plain, RowSource, Stacked
from convert.writer import remove_stale, sync_directory

# The weights that llama.cpp's graphs multiply together with an adapter's; it would leave
# out others without a word.
_ADAPTED = frozenset(
    (
        *("attn_q", "attn_k", "attn_v", "attn_qkv", "attn_output"),
        *("ffn_gate", "ffn_up", "ffn_down"),
        *("ffn_gate_inp", "ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"),
        *("ffn_gate_inp_shexp", "ffn_gate_shexp", "ffn_up_shexp", "ffn_down_shexp"),
        *("token_embd", "output"),
    )
)
# what happens to rows that can happen to those of B alone
_ADAPTABLE = (Rows.KEEP, Rows.INTERLEAVE_HEADS, Rows.VECTOR)
_EMBEDDING = "token_embd.weight"


@dataclass(frozen=True)
class WrittenAdapter:
    """One finished file."""

    path: Path
    num_modules: int
    alpha: float
    num_bytes: int


@dataclass(frozen=True)
class _Scaled:
    """Rows times a number, in float32."""

    rows: RowSource
    factor: float
    stored_type: StoredType = StoredType.F32

    @property
    def row_group(self) -> int:
        return self.rows.row_group

    def read_rows(self, start: int, stop: int) -> NDArray[Any]:
        values = to_float32(self.rows.read_rows(start, stop), self.rows.stored_type)
        scaled: NDArray[np.float32] = values * np.float32(self.factor)
        return scaled


@dataclass(frozen=True)
class _Transposed:
    """A small matrix's columns as rows."""

    pair: LoraPair
    row_group: int = 1

    @property
    def stored_type(self) -> StoredType:
        return self.pair.a.stored_type

    def read_rows(self, start: int, stop: int) -> NDArray[Any]:
        return np.ascontiguousarray(self.pair.a.read_rows(0, self.pair.rank)[:, start:stop].T)


def write_adapter(
    adapter: PeftAdapter,
    base: Checkpoint,
    path: Path,
    *,
    name: str,
    num_threads: int,
    max_ram_bytes: int,
) -> WrittenAdapter:
    """Writes `adapter` as it fits the GGUFs of `base`, or raises and leaves nothing.

    Raises `BadInput` of some kind for an adapter of another model, and for weights that
    llama.cpp would not adapt.
    """
    family = find_family(base.config)
    card = read_card(base.directory)
    if find_purpose(base.directory, family, base.config, card).pooling is not None:
        family = without_head(family)
    hyper, _tensors = read_model(family, base.config, base.tensors)
    known = places(family, hyper)
    alpha = _alpha(adapter)

    def spelled(own: str) -> str:
        return spelled_name(family, own)

    check_whole_weights(adapter, base.tensors, spelled)
    tensors = _tensors_of(adapter, known, alpha, spelled)
    fields = [
        string("general.architecture", family.name),
        string("general.type", "adapter"),
        string("general.name", name),
        string("adapter.type", "lora"),
        f32("adapter.lora.alpha", alpha),
        *card_fields(read_card(adapter.directory)),
    ]
    # whatever they are stored as: of others, ggml would round what it multiplies them with
    slots = lay_out((tensor.name, tensor.shape, GGMLQuantizationType.F32) for tensor in tensors)
    plan = OutputPlan(path, "LoRA", (plan_file(path, fields, slots),))
    _write(plan, tensors, num_threads, max_ram_bytes)
    return WrittenAdapter(path, len(adapter.pairs), alpha, plan.num_bytes)


def _write(
    plan: OutputPlan, tensors: Sequence[OutputTensor], num_threads: int, max_ram_bytes: int
) -> None:
    plan.path.parent.mkdir(parents=True, exist_ok=True)
    remove_stale(plan.path.parent)
    output = open_output(plan)
    try:
        worker = BlockWorker(load_ggml_kernel(), [output], RowWeights(None, tensors))
        write_blocks(
            worker, tensors, fit_work(max_ram_bytes, num_threads, tensors), lambda _bytes: None
        )
        output.sync()
        output.commit()
    finally:
        output.discard()
    sync_directory(plan.path.parent)


def _alpha(adapter: PeftAdapter) -> float:
    """The file's one alpha: that of the first pair, so that most of B stays as it is."""
    pair = next(iter(adapter.pairs.values()))
    return pair.scale * pair.rank


def _tensors_of(
    adapter: PeftAdapter,
    known: dict[str, Place],
    alpha: float,
    spelled: Callable[[str], str],
) -> list[OutputTensor]:
    groups: dict[str, list[tuple[Place, LoraPair]]] = {}
    for pair in adapter.pairs.values():
        place = _place(adapter, pair, spelled(pair.weight), known)
        check_shape(adapter, pair, place.shape, lies_across=place.rule.lies_across)
        groups.setdefault(place.target, []).append((place, pair))
    tensors: list[OutputTensor] = []
    for target, members in groups.items():
        members.sort(key=lambda member: member[0].expert)
        tensors += _pair_of(adapter, target, members, alpha)
    return tensors


def _place(adapter: PeftAdapter, pair: LoraPair, weight: str, known: dict[str, Place]) -> Place:
    """Raises `UnsupportedModel` for what llama.cpp does not adapt."""
    place = known.get(weight)
    if place is None:
        raise UnsupportedModel(
            f"{adapter.directory} adapts {weight}, which the model's GGUF has no tensor for: it "
            "is an adapter for another model, or one whose head is its embedding once more."
            f"{way_out(weight)}"
        )
    rule = place.rule
    # a matrix on its side stands upright in the GGUF, as the pair's product does
    is_adaptable = rule.rows in _ADAPTABLE or rule.lies_across
    is_plain = is_adaptable and not (rule.order or rule.columns or rule.scale)
    if place.target.removesuffix(".weight").rpartition(".")[2] not in _ADAPTED or not is_plain:
        raise UnsupportedModel(
            f"{adapter.directory} adapts {weight}, which llama.cpp computes without adapters. "
            f"Merge it: appliance-convert SRC --merge-lora {adapter.directory} --out DIR"
        )
    is_embedding = place.target == _EMBEDDING
    has_output = "output.weight" in {other.target for other in known.values()}
    if pair.is_embedding != is_embedding or (is_embedding and not has_output):
        raise UnsupportedModel(
            f"{adapter.directory} adapts {weight}, which is this model's output too "
            "(tie_word_embeddings): llama.cpp cannot adapt one of both. Train an adapter without "
            "it, or untie them first."
        )
    return place


def _pair_of(
    adapter: PeftAdapter, target: str, members: Sequence[tuple[Place, LoraPair]], alpha: float
) -> list[OutputTensor]:
    """A and B of one tensor of the GGUF; of experts all of them, stacked."""
    pairs = [pair for _place, pair in members]
    place, first = members[0]
    if len(pairs) < place.num_experts:
        raise UnsupportedModel(
            f"{adapter.directory} adapts {len(pairs)} of the {place.num_experts} experts of "
            f"{target}: llama.cpp adapts all of a layer or none."
        )
    if (
        len({(pair.a.shape, pair.scale, pair.a.stored_type, pair.b.stored_type) for pair in pairs})
        > 1
    ):
        raise UnsupportedModel(
            f"{adapter.directory} adapts the experts of {target} by different ranks, scales or "
            "types of numbers, which llama.cpp cannot hold."
        )
    a: RowSource = Plain(first.a)
    b: RowSource = row_source(place.rule, first.b, place.head_dim)
    a_shape, b_shape = first.a.shape, first.b.shape
    if first.is_embedding:  # llama.cpp takes rows of A, so it is wanted the other way round
        a, a_shape = _Transposed(first), a_shape[::-1]
    if place.num_experts:
        a, b = Stacked(tuple(p.a for p in pairs)), Stacked(tuple(p.b for p in pairs))
        a_shape, b_shape = (len(pairs), *a_shape), (len(pairs), *b_shape)
    factor = first.scale * first.rank / alpha
    if factor != 1.0:
        b = _Scaled(b, factor)
    return [
        OutputTensor(f"{target}.lora_a", a_shape, a),
        OutputTensor(f"{target}.lora_b", b_shape, b),
    ]

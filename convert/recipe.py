"""Which ggml type each tensor gets in a file of a given type. Knows no bytes and no families.

The mixtures are llama.cpp's (src/llama-quant.cpp: `llama_tensor_get_type_impl`, `tensor_type_fallback`,
`tensor_allows_quantization`), without an importance matrix and for dense models: a file made here has the same types as
one made by `llama_model_quantize`.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from gguf import GGML_QUANT_SIZES, LlamaFileType
from gguf import GGMLQuantizationType as Type

from convert.errors import UnknownType
from convert.tensors import OutputTensor


class Role(enum.Enum):
    """What a tensor does, as far as the mixtures care; the value is the mark in its name."""

    TOKEN_EMBEDDING = "token_embd.weight"
    OUTPUT = "output.weight"
    ATTENTION_V = "attn_v.weight"
    ATTENTION_OUTPUT = "attn_output.weight"
    FFN_DOWN = "ffn_down"
    OTHER = ""


@dataclass(frozen=True)
class Place:
    """The `index`th of `count` tensors of one role, in a model of `num_layers` layers.

    `heads_per_kv_head` is the grouping of its attention.
    """

    index: int
    count: int
    num_layers: int
    heads_per_kv_head: int

    @property
    def wants_more_bits(self) -> bool:
        """The first and last eighth, and every third between (`use_more_bits`)."""
        eighth = self.count // 8
        return self.index < eighth or self.index >= 7 * self.count // 8 or (self.index - eighth) % 3 == 2


Rule = Callable[[Place], Type]


def always(ggml_type: Type) -> Rule:
    return lambda _place: ggml_type


def more_bits(better: Type, base: Type) -> Rule:
    return lambda place: better if place.wants_more_bits else base


def first(count: int, better: Type, base: Type) -> Rule:
    return lambda place: better if place.index < count else base


def first_part(divisor: int, better: Type, base: Type) -> Rule:
    return lambda place: better if place.index < place.count // divisor else base


def grouped(better: Type, base: Type) -> Rule:
    """`better` where four or more query heads share a value head: that tensor is small, and weighs on all of them."""
    return lambda place: better if place.heads_per_kv_head >= 4 else base


@dataclass(frozen=True)
class Mixture:
    """A file type: `base` for every matrix that `rules` do not name. `output` is for the matrix that makes logits."""

    file_type: LlamaFileType
    base: Type
    output: Type
    rules: Mapping[Role, Rule] = field(default_factory=dict)

    @property
    def is_quantized(self) -> bool:
        return self.base not in (Type.F32, Type.F16, Type.BF16)


MIXTURES: Mapping[str, Mixture] = {
    "F32": Mixture(LlamaFileType.ALL_F32, Type.F32, Type.F32),
    "F16": Mixture(LlamaFileType.MOSTLY_F16, Type.F16, Type.F16),
    "BF16": Mixture(LlamaFileType.MOSTLY_BF16, Type.BF16, Type.BF16),
    "Q8_0": Mixture(LlamaFileType.MOSTLY_Q8_0, Type.Q8_0, Type.Q8_0),
    "Q6_K": Mixture(LlamaFileType.MOSTLY_Q6_K, Type.Q6_K, Type.Q6_K),
    "Q5_K_M": Mixture(
        LlamaFileType.MOSTLY_Q5_K_M,
        Type.Q5_K,
        Type.Q6_K,
        {
            Role.ATTENTION_V: more_bits(Type.Q6_K, Type.Q5_K),
            Role.FFN_DOWN: more_bits(Type.Q6_K, Type.Q5_K),
        },
    ),
    "Q4_K_M": Mixture(
        LlamaFileType.MOSTLY_Q4_K_M,
        Type.Q4_K,
        Type.Q6_K,
        {
            Role.ATTENTION_V: more_bits(Type.Q6_K, Type.Q4_K),
            Role.FFN_DOWN: more_bits(Type.Q6_K, Type.Q4_K),
        },
    ),
    "Q4_0": Mixture(LlamaFileType.MOSTLY_Q4_0, Type.Q4_0, Type.Q6_K),
    "IQ4_XS": Mixture(
        LlamaFileType.MOSTLY_IQ4_XS,
        Type.IQ4_XS,
        Type.Q6_K,
        {
            Role.ATTENTION_V: grouped(Type.Q5_K, Type.IQ4_XS),
            Role.FFN_DOWN: first_part(8, Type.Q5_K, Type.IQ4_XS),
        },
    ),
    "Q3_K_M": Mixture(
        LlamaFileType.MOSTLY_Q3_K_M,
        Type.Q3_K,
        Type.Q6_K,
        {
            Role.ATTENTION_V: first(2, Type.Q5_K, Type.Q4_K),
            Role.FFN_DOWN: first_part(16, Type.Q5_K, Type.Q4_K),
            Role.ATTENTION_OUTPUT: always(Type.Q4_K),
        },
    ),
    "Q2_K": Mixture(
        LlamaFileType.MOSTLY_Q2_K,
        Type.Q2_K,
        Type.Q6_K,
        {
            Role.ATTENTION_V: grouped(Type.Q4_K, Type.Q3_K),
            Role.FFN_DOWN: always(Type.Q3_K),
            Role.ATTENTION_OUTPUT: always(Type.Q3_K),
        },
    ),
}

# Where a row does not fill the type's blocks of 256: the next type with blocks of 32.
FALLBACKS: Mapping[Type, Type] = {
    Type.Q2_K: Type.Q4_0,
    Type.Q3_K: Type.Q4_0,
    Type.Q4_K: Type.Q5_0,
    Type.Q5_K: Type.Q5_1,
    Type.Q6_K: Type.Q8_0,
    Type.IQ4_XS: Type.IQ4_NL,
}


def find_mixture(name: str) -> Mixture:
    """Raises `UnknownType` with the known ones."""
    if name not in MIXTURES:
        raise UnknownType(f"There is no type {name}; known: {', '.join(MIXTURES)}.")
    return MIXTURES[name]


def assign_types(
    mixture: Mixture, tensors: Sequence[OutputTensor], num_layers: int, heads_per_kv_head: int
) -> dict[str, Type]:
    """The ggml type of every tensor, by name."""
    by_role: dict[Role, list[OutputTensor]] = {role: [] for role in Role}
    for tensor in sorted(tensors, key=_loading_order):
        by_role[role_of(tensor.name)].append(tensor)
    is_tied = not by_role[Role.OUTPUT]
    types: dict[str, Type] = {}
    for role, members in by_role.items():
        matrices = [tensor for tensor in members if _is_quantizable(tensor)]
        # llama.cpp counts value projections, but takes the number of layers for feed-forward matrices.
        count = num_layers if role is Role.FFN_DOWN else len(matrices)
        for tensor in members:
            types[tensor.name] = Type.F32
        for index, tensor in enumerate(matrices):
            makes_logits = role is Role.OUTPUT or (is_tied and role is Role.TOKEN_EMBEDDING)
            place = Place(index, count, num_layers, heads_per_kv_head)
            types[tensor.name] = _matrix_type(mixture, role, makes_logits, tensor.row_items, place)
    return types


def role_of(name: str) -> Role:
    for role in (Role.TOKEN_EMBEDDING, Role.OUTPUT):
        if name == role.value:
            return role
    for role in (Role.ATTENTION_V, Role.ATTENTION_OUTPUT, Role.FFN_DOWN):
        if role.value in name:
            return role
    return Role.OTHER


def _loading_order(tensor: OutputTensor) -> tuple[int, str]:
    """By layer, then by name: the order in which llama.cpp counts tensors (`weight_name_comparer`)."""
    match = re.match(r"blk\.(\d+)\.", tensor.name)
    return (int(match[1]) if match else -1, tensor.name)


def _is_quantizable(tensor: OutputTensor) -> bool:
    """Matrices, except norms; every vector stays F32."""
    return len(tensor.shape) > 1 and tensor.name.endswith(".weight") and "_norm.weight" not in tensor.name


def _matrix_type(mixture: Mixture, role: Role, makes_logits: bool, row_items: int, place: Place) -> Type:
    if not mixture.is_quantized:
        return mixture.base
    if makes_logits:
        chosen = mixture.output if _fits(row_items, mixture.base) else Type.Q8_0
    else:
        chosen = mixture.rules.get(role, always(mixture.base))(place)
        # The 70B shape: its value projections are an eighth of its queries' size, and worth more bits.
        is_70b = place.num_layers == 80 and place.heads_per_kv_head > 1
        if role is Role.ATTENTION_V and is_70b and chosen in (Type.Q3_K, Type.Q4_K):
            chosen = Type.Q5_K
    return _fallback(chosen, row_items)


def _fallback(chosen: Type, row_items: int) -> Type:
    if _fits(row_items, chosen):
        return chosen
    smaller = FALLBACKS.get(chosen, chosen)
    return smaller if _fits(row_items, smaller) else Type.F16


def _fits(row_items: int, ggml_type: Type) -> bool:
    return row_items % GGML_QUANT_SIZES[ggml_type][0] == 0

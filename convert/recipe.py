"""Which ggml type each tensor gets in a file of a given type.

Knows no bytes and no families.

The mixtures are llama.cpp's (src/llama-quant.cpp: `llama_tensor_get_type_impl`,
`tensor_type_fallback`, `tensor_allows_quantization`): a file made here has the same
types as one made by `llama_model_quantize`, with an importance matrix or without.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from gguf import GGML_QUANT_SIZES, LlamaFileType
from gguf import GGMLQuantizationType as Type

from convert.errors import UnknownType, UnsupportedModel
from convert.gguf.block_scales import is_block_scale, may_be_nvfp4
from convert.tensors import OutputTensor, packs


class Role(enum.Enum):
    """What a tensor does, as far as the mixtures care;
    the value is the mark in its name.
    """

    TOKEN_EMBEDDING = "token_embd.weight"
    OUTPUT = "output.weight"
    # attn_qkv.weight and attn_kv_b.weight too, which hold the values among the rest
    ATTENTION_V = "attn_v.weight"
    ATTENTION_K = "attn_k.weight"
    ATTENTION_OUTPUT = "attn_output.weight"
    FFN_DOWN = "ffn_down"
    OTHER = ""


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """What the mixtures ask about a model."""

    architecture: str  # llama.cpp's name
    num_layers: int
    num_heads: int
    num_kv_heads: int
    num_experts: int = 0  # of a dense model

    @property
    def heads_per_kv_head(self) -> int:
        # llama.cpp goes by the first layer, which in hybrids may have none
        return self.num_heads // self.num_kv_heads if self.num_kv_heads else 0

    @property
    def is_70b(self) -> bool:
        """What llama.cpp takes for a 70B model (`LLM_TYPE_70B`): it goes by
        architecture and number of layers.
        """
        if self.architecture == "llama":
            return (
                self.num_layers == 80
                and self.num_heads != self.num_kv_heads
                and self.num_experts != 8
            )
        return self.architecture == "qwen2" and self.num_layers == 80

    @property
    def has_eight_experts(self) -> bool:
        """Mixtral's number, for which alone there are rules: there, attention is small
        beside the experts.
        """
        return self.num_experts == 8


@dataclass(frozen=True)
class Place:
    """The `index`th of `count` tensors of one role in a model."""

    index: int
    count: int
    model: ModelShape
    has_importance: bool = False  # whether the file is made with an importance matrix

    @property
    def wants_more_bits(self) -> bool:
        """The first and last eighth, and every third between (`use_more_bits`)."""
        eighth = self.count // 8
        return (
            self.index < eighth
            or self.index >= 7 * self.count // 8
            or (self.index - eighth) % 3 == 2
        )


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
    """`better` where four or more query heads share a value head: that tensor is small,
    and weighs on all of them.
    """
    return lambda place: better if place.model.heads_per_kv_head >= 4 else base


def unless_eight_experts(rule: Rule, eight: Type) -> Rule:
    return lambda place: eight if place.model.has_eight_experts else rule(place)


def by_importance(with_it: Rule, without: Rule) -> Rule:
    return lambda place: (with_it if place.has_importance else without)(place)


@dataclass(frozen=True)
class Mixture:
    """A file type: `base` for every matrix that `rules` do not name.

    `output` is for the matrix that makes logits.
    """

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
            Role.ATTENTION_OUTPUT: unless_eight_experts(always(Type.Q4_K), Type.Q5_K),
        },
    ),
    "Q4_0": Mixture(
        LlamaFileType.MOSTLY_Q4_0,
        Type.Q4_0,
        Type.Q6_K,
        {Role.FFN_DOWN: by_importance(first_part(8, Type.Q4_1, Type.Q4_0), always(Type.Q4_0))},
    ),
    "IQ4_XS": Mixture(
        LlamaFileType.MOSTLY_IQ4_XS,
        Type.IQ4_XS,
        Type.Q6_K,
        {
            Role.ATTENTION_V: grouped(Type.Q5_K, Type.IQ4_XS),
            Role.FFN_DOWN: by_importance(
                always(Type.IQ4_XS), first_part(8, Type.Q5_K, Type.IQ4_XS)
            ),
            Role.ATTENTION_OUTPUT: unless_eight_experts(always(Type.IQ4_XS), Type.Q5_K),
        },
    ),
    "Q3_K_M": Mixture(
        LlamaFileType.MOSTLY_Q3_K_M,
        Type.Q3_K,
        Type.Q6_K,
        {
            Role.ATTENTION_V: first(2, Type.Q5_K, Type.Q4_K),
            Role.FFN_DOWN: first_part(16, Type.Q5_K, Type.Q4_K),
            Role.ATTENTION_OUTPUT: unless_eight_experts(always(Type.Q4_K), Type.Q5_K),
        },
    ),
    "Q2_K": Mixture(
        LlamaFileType.MOSTLY_Q2_K,
        Type.Q2_K,
        Type.Q6_K,
        {
            Role.ATTENTION_V: grouped(Type.Q4_K, Type.Q3_K),
            Role.FFN_DOWN: always(Type.Q3_K),
            Role.ATTENTION_OUTPUT: unless_eight_experts(always(Type.Q3_K), Type.Q5_K),
        },
    ),
}

# The type of a file that takes every weight over as the checkpoint has it: quantized ones
# as the smallest blocks that hold the same numbers, others in their own type.
SOURCE = "SOURCE"
TYPE_NAMES = (*MIXTURES, SOURCE)
# what a file is said to be, by the type that most of its quantized weights have
_FILE_TYPES = {
    Type.TQ2_0: LlamaFileType.MOSTLY_TQ2_0,
    Type.Q4_0: LlamaFileType.MOSTLY_Q4_0,
    Type.Q4_1: LlamaFileType.MOSTLY_Q4_1,
    Type.Q4_K: LlamaFileType.MOSTLY_Q4_K_S,
    Type.Q5_0: LlamaFileType.MOSTLY_Q5_0,
    Type.Q8_0: LlamaFileType.MOSTLY_Q8_0,
    Type.MXFP4: LlamaFileType.MOSTLY_MXFP4_MOE,
    Type.NVFP4: LlamaFileType.MOSTLY_NVFP4,
}
_STORED = {"F32": Type.F32, "F16": Type.F16, "BF16": Type.BF16}

# Where a row does not fill the type's blocks of 256: the next type with blocks of 32.
FALLBACKS: Mapping[Type, Type] = {
    Type.Q2_K: Type.Q4_0,
    Type.Q3_K: Type.Q4_0,
    Type.Q4_K: Type.Q5_0,
    Type.Q5_K: Type.Q5_1,
    Type.Q6_K: Type.Q8_0,
    Type.IQ4_XS: Type.IQ4_NL,
}


def check_type(name: str) -> None:
    """Raises `UnknownType` with the known ones."""
    if name not in TYPE_NAMES:
        raise UnknownType(f"Unknown type {name}. Known types: {', '.join(TYPE_NAMES)}.")


@dataclass(frozen=True)
class FileTypes:
    """What a file is, and the ggml type of each of its tensors, by name."""

    file_type: LlamaFileType
    is_quantized: bool  # by us, so that an importance matrix matters
    types: Mapping[str, Type]


def file_types(
    name: str, tensors: Sequence[OutputTensor], model: ModelShape, *, has_importance: bool = False
) -> FileTypes:
    """Of a file of the type `name`; scales that it has no use for have no type in it.

    Raises `UnknownType`, or `UnsupportedModel` for `SOURCE` where no weight can be taken
    over.
    """
    check_type(name)
    if name == SOURCE:
        return _source_types(tensors, model)
    tensors = [tensor for tensor in tensors if not is_block_scale(tensor)]
    mixture = MIXTURES[name]
    has_importance = has_importance and mixture.is_quantized
    types = assign_types(mixture, tensors, model, has_importance=has_importance)
    return FileTypes(mixture.file_type, mixture.is_quantized, types)


def _source_types(tensors: Sequence[OutputTensor], model: ModelShape) -> FileTypes:
    types: dict[str, Type] = {}
    items: dict[Type, int] = {}
    for tensor in tensors:
        stored = _STORED[tensor.source.stored_type.value]
        types[tensor.name] = stored if _is_quantizable(tensor) else Type.F32
        if _is_quantizable(tensor) and (known := _taken_over(tensor, model)):
            types[tensor.name] = known[0]
            items[known[0]] = items.get(known[0], 0) + tensor.num_items
    if not items:
        raise UnsupportedModel(
            f"No weight of this checkpoint is quantized in a way that GGUF has too, so there is "
            f"nothing to take over as {SOURCE}. Choose another type, such as BF16 or Q8_0."
        )
    most = max(items, key=lambda ggml_type: items[ggml_type])
    return FileTypes(_FILE_TYPES[most], False, types)


def _taken_over(tensor: OutputTensor, model: ModelShape) -> Sequence[Type]:
    """The types of blocks that a file of this model can have of a weight."""
    is_scaled = may_be_nvfp4(model.architecture, tensor)
    return [name for name in packs(tensor.source) if name is not Type.NVFP4 or is_scaled]


def assign_types(
    mixture: Mixture,
    tensors: Sequence[OutputTensor],
    model: ModelShape,
    *,
    has_importance: bool = False,
) -> dict[str, Type]:
    """The ggml type of every tensor, by name."""
    by_role: dict[Role, list[OutputTensor]] = {role: [] for role in Role}
    for tensor in sorted(tensors, key=_loading_order):
        by_role[role_of(tensor.name)].append(tensor)
    is_tied = not by_role[Role.OUTPUT]
    types: dict[str, Type] = {}
    for role, members in by_role.items():
        matrices = [tensor for tensor in members if _is_quantizable(tensor)]
        for tensor in members:
            types[tensor.name] = Type.F32
        for index, tensor in enumerate(matrices):
            makes_logits = role is Role.OUTPUT or (is_tied and role is Role.TOKEN_EMBEDDING)
            place = replace(
                _place(role, index, len(matrices), tensor, model), has_importance=has_importance
            )
            types[tensor.name] = _matrix_type(mixture, role, makes_logits, tensor.row_items, place)
    return types


def role_of(name: str) -> Role:
    if name in (Role.TOKEN_EMBEDDING.value, "per_layer_token_embd.weight"):
        return Role.TOKEN_EMBEDDING
    if name == Role.OUTPUT.value:
        return Role.OUTPUT
    if "attn_qkv.weight" in name or "attn_kv_b.weight" in name:
        return Role.ATTENTION_V
    for role in (Role.ATTENTION_V, Role.ATTENTION_K, Role.ATTENTION_OUTPUT, Role.FFN_DOWN):
        if role.value in name:
            return role
    return Role.OTHER


def _place(role: Role, index: int, count: int, tensor: OutputTensor, model: ModelShape) -> Place:
    """llama.cpp counts value projections,
    but takes the number of layers for feed-forward matrices.

    Of those, a layer with experts has several; there it goes by the layer's number.
    """
    if role is not Role.FFN_DOWN:
        return Place(index, count, model)
    return Place(_layer_of(tensor) if model.num_experts > 1 else index, model.num_layers, model)


def _layer_of(tensor: OutputTensor) -> int:
    """-1 for a tensor outside the layers."""
    match = re.match(r"blk\.(\d+)\.", tensor.name)
    return int(match[1]) if match else -1


def _loading_order(tensor: OutputTensor) -> tuple[int, str]:
    """By layer, then by name: the order in which llama.cpp counts tensors
    (`weight_name_comparer`).
    """
    return (_layer_of(tensor), tensor.name)


# Matrices that stay F32: small, and what they decide is sensitive.
KEPT_MARKS = (
    *("_norm.weight", "ffn_gate_inp.weight", "position_embd.weight", "token_types.weight"),
    *("ssm_conv1d", "shortconv.conv.weight", "altup", "laurel", "per_layer_model_proj"),
    *("time_mix_lerp_fused", *(f"time_mix_{mark}{part}" for mark in "wavg" for part in "12")),
)


def _is_quantizable(tensor: OutputTensor) -> bool:
    """Matrices, one or a stack of them; every vector stays F32."""
    is_kept = any(mark in tensor.name for mark in KEPT_MARKS)
    return len(tensor.shape) > 1 and tensor.name.endswith(".weight") and not is_kept


def _matrix_type(
    mixture: Mixture, role: Role, makes_logits: bool, row_items: int, place: Place
) -> Type:
    if not mixture.is_quantized:
        return mixture.base
    if makes_logits:
        chosen = mixture.output if _fits(row_items, mixture.base) else Type.Q8_0
    elif place.model.has_eight_experts and role in (Role.ATTENTION_V, Role.ATTENTION_K):
        chosen = Type.Q8_0  # about 128 MB of Mixtral, and every token depends on them
    else:
        chosen = mixture.rules.get(role, always(mixture.base))(place)
        # The 70B shape: its value projections are an eighth of its queries' size, and
        # worth more bits.
        if role is Role.ATTENTION_V and place.model.is_70b and chosen in (Type.Q3_K, Type.Q4_K):
            chosen = Type.Q5_K
    return _fallback(chosen, row_items)


def _fallback(chosen: Type, row_items: int) -> Type:
    if _fits(row_items, chosen):
        return chosen
    smaller = FALLBACKS.get(chosen, chosen)
    return smaller if _fits(row_items, smaller) else Type.F16


def _fits(row_items: int, ggml_type: Type) -> bool:
    return row_items % GGML_QUANT_SIZES[ggml_type][0] == 0

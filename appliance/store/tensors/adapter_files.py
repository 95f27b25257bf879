"""Adapter files: whether they are what they say, and fit a model.

Knows no name of an adapter and no request.

What llama.cpp would die of, or leave out without a word, is refused here first, from the
headers alone (src/llama-adapter.cpp, common/common.cpp). Files: `general.type` adapter with
pairs `NAME.lora_a`, `NAME.lora_b`; `general.architecture` controlvector with `direction.N`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from appliance.errors import BadModelFile
from appliance.store.gguf_header import GgufHeader, Tensor, read_header

CONTROL_VECTOR = "controlvector"
_ALPHA = "adapter.lora.alpha"
_ACTIVATED = "adapter.alora.invocation_tokens"
_FLOAT32 = 6  # as GGUF numbers its types
_TYPES = ("F32", "F16", "BF16", "Q8_0")
_EMBEDDING, _OUTPUT = "token_embd.weight", "output.weight"
# Weights that graphs take without an adapter's part: rows that are looked up, factors,
# convolutions, and what is multiplied in other ways.
_NEVER_ADAPTED = re.compile(
    r"norm|token_types|position_embd|per_layer_token_embd|rope_freqs|conv1d|\.conv\.|\.ssm_[ad]\b|"
    r"attn_[kv]_b|sinks|^cls\b"
)
_LAYER = re.compile(r"blk\.([0-9]{1,4})\.")
_DIRECTION = re.compile(r"direction\.([1-9][0-9]{0,3})")


@dataclass(frozen=True, kw_only=True)
class CheckedAdapter:
    """What a file is."""

    is_control_vector: bool
    num_bytes: int  # in memory
    offsets: dict[int, int] = field(default_factory=dict)  # of each layer's vector in the file


def kind_of(path: Path) -> str:
    """Its architecture: that of a model, or `CONTROL_VECTOR`. Raises `BadModelFile`."""
    return read_header(path).architecture


def read_adapter(path: Path, models: Sequence[GgufHeader]) -> CheckedAdapter:
    """What the file at `path` is, which fits each of a model's files.

    Raises `BadModelFile` for one that is damaged, no adapter, or of another model.
    """
    header = read_header(path)
    if header.metadata.get("general.architecture") == CONTROL_VECTOR:
        return max((_vector(header, model) for model in models), key=lambda one: one.num_bytes)
    if header.metadata.get("general.type") != "adapter":
        raise BadModelFile(
            f"{path} is no adapter: its general.type is not 'adapter'. Convert one: "
            "appliance-convert lora ADAPTER --base SRC --out DIR"
        )
    for model in models:
        _check_lora(header, model)
    num_bytes = sum(tensor.num_bytes for tensor in header.tensors)
    return CheckedAdapter(is_control_vector=False, num_bytes=num_bytes)


def _check_lora(header: GgufHeader, model: GgufHeader) -> None:
    kind = header.text("adapter.type")
    if kind != "lora":
        raise BadModelFile(f"{header.path} is an adapter of type {kind!r}; only 'lora' is known.")
    if header.architecture != model.architecture:
        raise BadModelFile(
            f"{header.path} is an adapter for models of the architecture {header.architecture}, "
            f"and {model.path.name} is of {model.architecture}."
        )
    if _ACTIVATED in header.metadata:
        raise BadModelFile(
            f"{header.path} is only active behind certain tokens (aLoRA), which is not supported."
        )
    if header.type_ids.get(_ALPHA) != _FLOAT32:
        raise BadModelFile(f"{header.path}: its key {_ALPHA} is not a number of 32 bits.")
    pairs: dict[str, dict[str, Tensor]] = {}
    for tensor in header.tensors:
        name, dot, half = tensor.name.rpartition(".")
        if dot and half in ("lora_a", "lora_b"):
            pairs.setdefault(name, {})[half] = tensor
        else:
            raise BadModelFile(
                f"{header.path} contains {tensor.name}, which llama.cpp does not apply: only "
                "pairs of lora_a and lora_b are."
            )
    if not pairs:
        raise BadModelFile(f"{header.path} adapts nothing.")
    weights = {tensor.name: tensor for tensor in model.tensors}
    num_layers = _num_layers(model)
    for name, pair in pairs.items():
        if (layer := _LAYER.match(name)) and int(layer[1]) >= num_layers and name in weights:
            raise BadModelFile(
                f"{header.path} adapts {name}, a part of the heads that draft for this model: "
                "adapters are not applied to these."
            )
        _check_pair(header, name, pair, weights)


def _num_layers(model: GgufHeader) -> int:
    """Without those that only draft (src/llama-hparams.cpp, `n_layer`)."""
    architecture = model.architecture
    num_heads = model.integer(f"{architecture}.nextn_predict_layers", 0)
    return model.integer(f"{architecture}.block_count") - num_heads


def _check_pair(
    header: GgufHeader, name: str, pair: dict[str, Tensor], weights: dict[str, Tensor]
) -> None:
    weight = weights.get(name)
    if weight is None:
        raise BadModelFile(f"{header.path} adapts {name}, which the model does not have.")
    if set(pair) != {"lora_a", "lora_b"}:
        raise BadModelFile(f"{header.path} has of {name} only one half of a pair.")
    is_lookup = name == _EMBEDDING
    if (
        not name.endswith(".weight")
        or _NEVER_ADAPTED.search(name)
        or (is_lookup and _OUTPUT not in weights)  # then it is both, and llama.cpp dies of it
        or weight.ggml_type.name == "NVFP4"
    ):
        raise BadModelFile(f"{header.path} adapts {name}, which llama.cpp cannot do.")
    a, b = pair["lora_a"], pair["lora_b"]
    for tensor in (a, b):
        if tensor.ggml_type.name not in _TYPES:
            raise BadModelFile(
                f"{header.path} has {tensor.name} as {tensor.ggml_type.name}; adapters are of "
                f"{', '.join(_TYPES)}."
            )
    if not _fits(a.shape, b.shape, weight.shape, is_lookup=is_lookup):
        raise BadModelFile(
            f"{header.path} adapts {name} by {list(a.shape)} and {list(b.shape)}, and the model's "
            f"is {list(weight.shape)}: it is an adapter for another model."
        )


def _fits(
    a: tuple[int, ...], b: tuple[int, ...], weight: tuple[int, ...], *, is_lookup: bool
) -> bool:
    """Shapes with the fastest dimension first; a vector is a matrix of one row."""
    depth = max(len(weight), 2)
    a, b, weight = (_padded(shape, depth) for shape in (a, b, weight))
    if not len(a) == len(b) == depth or 0 in (*a, *b) or a[2:] != weight[2:] or b[2:] != weight[2:]:
        return False
    if is_lookup:  # llama.cpp takes rows of A
        return a[0] == b[0] and (b[1], a[1]) == weight
    return a[1] == b[0] and (a[0], b[1]) == weight[:2]


def _padded(shape: tuple[int, ...], depth: int) -> tuple[int, ...]:
    return (*shape, *(1 for _ in range(depth - len(shape))))


def _vector(header: GgufHeader, model: GgufHeader) -> CheckedAdapter:
    architecture = model.architecture
    width = model.integer(f"{architecture}.embedding_length")
    num_layers = _num_layers(model)
    hint = header.text("controlvector.model_hint", architecture)
    if hint != architecture:
        raise BadModelFile(
            f"{header.path} is a control vector for models of the architecture {hint}, and "
            f"{model.path.name} is of {architecture}."
        )
    offsets: dict[int, int] = {}
    for tensor in header.tensors:
        match = _DIRECTION.fullmatch(tensor.name)
        if match is None or tensor.shape != (width,) or tensor.ggml_type.name != "F32":
            raise BadModelFile(
                f"{header.path} contains {tensor.name} ({tensor.ggml_type.name}, "
                f"{list(tensor.shape)}): a control vector of this model has direction.N as F32 of "
                f"{width} numbers."
            )
        offsets[int(match[1])] = tensor.offset
    if not offsets or max(offsets) >= num_layers:
        raise BadModelFile(
            f"{header.path} has directions for the layers {sorted(offsets)}, and the model's are "
            f"1 to {num_layers - 1}."
        )
    # the sum of those that are used, and what llama.cpp keeps of it
    num_bytes = 4 * width * (len(offsets) + 2 * num_layers)
    return CheckedAdapter(is_control_vector=True, num_bytes=num_bytes, offsets=offsets)

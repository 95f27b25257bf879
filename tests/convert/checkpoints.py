"""Small llama checkpoints with random weights, written as transformers would."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

EMBEDDED = Path(__file__).parents[2] / "models" / "embedded"


@dataclass(frozen=True)
class Shape:
    """What varies between the random checkpoints; `extra` goes into config.json as it is."""

    hidden: int = 64
    feed_forward: int = 96
    num_layers: int = 1
    num_heads: int = 2
    num_kv_heads: int = 2
    vocab: int = 260
    tied: bool = True
    stored_type: str = "BF16"
    attention_bias: bool = False
    extra: dict[str, Any] = field(default_factory=dict)


def write_checkpoint(directory: Path, shape: Shape, *, num_shards: int = 1) -> Path:
    """A whole checkpoint in `directory`: config, tokenizer, weights drawn from a fixed seed."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(_config(shape)))
    (directory / "tokenizer.json").write_text(json.dumps(byte_tokenizer()))
    (directory / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|end|>"}))
    tensors = random_tensors(shape)
    if num_shards == 1:
        write_safetensors(directory / "model.safetensors", tensors, shape.stored_type)
        return directory
    names = list(tensors)
    weight_map = {}
    for index in range(num_shards):
        shard = f"model-{index + 1:05}-of-{num_shards:05}.safetensors"
        part = names[index::num_shards]
        write_safetensors(directory / shard, {name: tensors[name] for name in part}, shape.stored_type)
        weight_map.update(dict.fromkeys(part, shard))
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return directory


def _config(shape: Shape) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": shape.hidden,
        "intermediate_size": shape.feed_forward,
        "num_hidden_layers": shape.num_layers,
        "num_attention_heads": shape.num_heads,
        "num_key_value_heads": shape.num_kv_heads,
        "vocab_size": shape.vocab,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": shape.tied,
        "attention_bias": shape.attention_bias,
        "torch_dtype": "bfloat16",
        **shape.extra,
    }


def random_tensors(shape: Shape) -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(11)
    return {name: rng.normal(0, 0.05, size).astype(np.float32) for name, size in tensor_sizes(shape).items()}


def tensor_sizes(shape: Shape) -> dict[str, tuple[int, ...]]:
    hidden, wide = shape.hidden, shape.feed_forward
    key = hidden // shape.num_heads * shape.num_kv_heads
    sizes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (shape.vocab, hidden)}
    if not shape.tied:
        sizes["lm_head.weight"] = (shape.vocab, hidden)
    for layer in range(shape.num_layers):
        prefix = f"model.layers.{layer}."
        projections = {
            "q_proj": (hidden, hidden),
            "k_proj": (key, hidden),
            "v_proj": (key, hidden),
            "o_proj": (hidden,) * 2,
        }
        for name, size in projections.items():
            sizes[f"{prefix}self_attn.{name}.weight"] = size
            if shape.attention_bias:
                sizes[f"{prefix}self_attn.{name}.bias"] = size[:1]
        for name, size in {"gate_proj": (wide, hidden), "up_proj": (wide, hidden), "down_proj": (hidden, wide)}.items():
            sizes[f"{prefix}mlp.{name}.weight"] = size
        for name in ("input_layernorm", "post_attention_layernorm"):
            sizes[f"{prefix}{name}.weight"] = (hidden,)
    return {**sizes, "model.norm.weight": (hidden,)}


def write_safetensors(path: Path, tensors: dict[str, NDArray[np.float32]], stored_type: str) -> None:
    header = _header({name: values.shape for name, values in tensors.items()}, stored_type)
    path.write_bytes(header + b"".join(_encode(values, stored_type) for values in tensors.values()))


def write_zeros(path: Path, sizes: dict[str, tuple[int, ...]]) -> None:
    """BF16 zeros that take no disk: the data is a hole in the file."""
    header = _header(sizes, "BF16")
    path.write_bytes(header)
    os.truncate(path, len(header) + sum(math.prod(size) * 2 for size in sizes.values()))


def _header(sizes: dict[str, tuple[int, ...]], stored_type: str) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, size in sizes.items():
        end = offset + math.prod(size) * (4 if stored_type == "F32" else 2)
        header[name] = {"dtype": stored_type, "shape": size, "data_offsets": [offset, end]}
        offset = end
    encoded = json.dumps(header).encode()
    return len(encoded).to_bytes(8, "little") + encoded


def _encode(values: NDArray[np.float32], stored_type: str) -> bytes:
    if stored_type == "BF16":
        return (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    return values.astype({"F32": "<f4", "F16": "<f2"}[stored_type]).tobytes()


def byte_tokenizer() -> dict[str, Any]:
    """A byte-level BPE of the 256 bytes, one merge and an end token: 258 tokens."""
    base = json.loads((EMBEDDED / "novels-6m" / "tokenizer.json").read_text())
    alphabet = [text for text, _ in sorted(base["model"]["vocab"].items(), key=lambda item: item[1]) if len(text) == 1]
    base["model"]["vocab"] = {text: i for i, text in enumerate([*alphabet, "he", "<|end|>"])}
    base["model"]["merges"] = [["h", "e"]]
    base["added_tokens"] = [{**base["added_tokens"][0], "id": len(alphabet) + 1, "content": "<|end|>"}]
    return base

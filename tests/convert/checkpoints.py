"""Small checkpoints with random weights, written as transformers would: llama, and what
differs little from it.
"""

from __future__ import annotations

import base64
import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.convert.golden.seeded import WEIGHTS_FILE, seeded_weights
from tests.vocabularies.charsmaps import charsmap

EMBEDDED = Path(__file__).parents[2] / "models" / "embedded"
# may lie beside a checkout; tests that want it are skipped where it does not
SHARED = Path(__file__).parents[3] / "shared"
GOLDEN = Path(__file__).parent / "golden"
GOLDEN_NAMES = sorted(path.parent.name for path in GOLDEN.glob("*/reference.npz"))
# families whose conversion alone is tested, all of them together
ENCODERS = (
    *("bert", "nomic_bert", "jina_bert", "jina_bert_code", "xlm_roberta", "modern_bert"),
    "embedding_gemma",
)
NEWER_NAMES = sorted(path.parent.name for path in GOLDEN.glob("newer/*/reference.npz"))


@dataclass(frozen=True)
class Shape:
    """What varies between the random checkpoints."""

    hidden: int = 64
    feed_forward: int = 96
    num_layers: int = 1
    num_heads: int = 2
    num_kv_heads: int = 2
    vocab: int = 260
    tied: bool = True
    stored_type: str = "BF16"
    attention_bias: bool = False
    architecture: str = "LlamaForCausalLM"  # or Mixtral, Qwen2, Phi3
    num_experts: int = 0
    extra: dict[str, Any] = field(default_factory=dict)  # for config.json, as it is


def write_checkpoint(directory: Path, shape: Shape, *, num_shards: int = 1) -> Path:
    """A whole checkpoint in `directory`:
    config, tokenizer, weights drawn from a fixed seed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(_config(shape)))
    write_tokenizer(directory)
    tensors = random_tensors(shape)
    if num_shards == 1:
        write_safetensors(directory / "model.safetensors", tensors, shape.stored_type)
        return directory
    names = list(tensors)
    weight_map = {}
    for index in range(num_shards):
        shard = f"model-{index + 1:05}-of-{num_shards:05}.safetensors"
        part = names[index::num_shards]
        write_safetensors(
            directory / shard, {name: tensors[name] for name in part}, shape.stored_type
        )
        weight_map.update(dict.fromkeys(part, shard))
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return directory


def _config(shape: Shape) -> dict[str, Any]:
    return {
        "architectures": [shape.architecture],
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
        **(
            {"num_local_experts": shape.num_experts, "num_experts_per_tok": 2}
            if shape.num_experts
            else {}
        ),
        **shape.extra,
    }


def random_tensors(shape: Shape) -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(11)
    return {
        name: rng.normal(0, 0.05, size).astype(np.float32)
        for name, size in tensor_sizes(shape).items()
    }


def tensor_sizes(shape: Shape) -> dict[str, tuple[int, ...]]:
    sizes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (shape.vocab, shape.hidden)}
    if not shape.tied:
        sizes["lm_head.weight"] = (shape.vocab, shape.hidden)
    for layer in range(shape.num_layers):
        prefix = f"model.layers.{layer}."
        for name, size in {**_attention_sizes(shape), **_feed_forward_sizes(shape)}.items():
            sizes[prefix + name] = size
        for name in ("input_layernorm", "post_attention_layernorm"):
            sizes[f"{prefix}{name}.weight"] = (shape.hidden,)
    return {**sizes, "model.norm.weight": (shape.hidden,)}


def _attention_sizes(shape: Shape) -> dict[str, tuple[int, ...]]:
    hidden = shape.hidden
    key = hidden // shape.num_heads * shape.num_kv_heads
    if shape.architecture == "Phi3ForCausalLM":
        return {
            "self_attn.qkv_proj.weight": (hidden + 2 * key, hidden),
            "self_attn.o_proj.weight": (hidden, hidden),
        }
    sizes: dict[str, tuple[int, ...]] = {}
    for name, rows in {"q_proj": hidden, "k_proj": key, "v_proj": key, "o_proj": hidden}.items():
        sizes[f"self_attn.{name}.weight"] = (rows, hidden)
        if shape.attention_bias or (shape.architecture == "Qwen2ForCausalLM" and name != "o_proj"):
            sizes[f"self_attn.{name}.bias"] = (rows,)
    return sizes


def _feed_forward_sizes(shape: Shape) -> dict[str, tuple[int, ...]]:
    hidden, wide = shape.hidden, shape.feed_forward
    if shape.architecture == "Phi3ForCausalLM":
        return {
            "mlp.gate_up_proj.weight": (2 * wide, hidden),
            "mlp.down_proj.weight": (hidden, wide),
        }
    if not shape.num_experts:
        sizes = {
            "gate_proj": (wide, hidden),
            "up_proj": (wide, hidden),
            "down_proj": (hidden, wide),
        }
        return {f"mlp.{name}.weight": size for name, size in sizes.items()}
    return {
        "block_sparse_moe.gate.weight": (shape.num_experts, hidden),
        **{
            f"block_sparse_moe.experts.{expert}.{name}.weight": size
            for expert in range(shape.num_experts)
            for name, size in {
                "w1": (wide, hidden),
                "w2": (hidden, wide),
                "w3": (wide, hidden),
            }.items()
        },
    }


def write_safetensors(path: Path, tensors: Mapping[str, NDArray[Any]], stored_type: str) -> None:
    """Whole numbers are stored as I64, the rest as `stored_type`."""
    types = {
        name: "I64" if values.dtype == np.int64 else stored_type for name, values in tensors.items()
    }
    header = _header({name: (types[name], values.shape) for name, values in tensors.items()})
    path.write_bytes(
        header + b"".join(_encode(values, types[name]) for name, values in tensors.items())
    )


def write_zeros(path: Path, sizes: dict[str, tuple[int, ...]]) -> None:
    """BF16 zeros that take no disk: the data is a hole in the file."""
    header = _header({name: ("BF16", size) for name, size in sizes.items()})
    path.write_bytes(header)
    os.truncate(path, len(header) + sum(math.prod(size) * 2 for size in sizes.values()))


def _header(entries: dict[str, tuple[str, tuple[int, ...]]]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, (stored_type, size) in entries.items():
        end = offset + math.prod(size) * {"I64": 8, "F32": 4}.get(stored_type, 2)
        header[name] = {"dtype": stored_type, "shape": size, "data_offsets": [offset, end]}
        offset = end
    encoded = json.dumps(header).encode()
    return len(encoded).to_bytes(8, "little") + encoded


def _encode(values: NDArray[Any], stored_type: str) -> bytes:
    if stored_type == "BF16":
        return (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    return values.astype({"F32": "<f4", "F16": "<f2", "I64": "<i8"}[stored_type]).tobytes()


def golden_folder(name: str) -> Path:
    return GOLDEN / ("newer" if name in NEWER_NAMES else "") / name


def golden_checkpoint(name: str, directory: Path) -> Path:
    """A copy of tests/convert/golden/`name`, with a tokenizer."""
    shutil.copytree(golden_folder(name), directory)
    if (directory / WEIGHTS_FILE).exists():
        write_safetensors(directory / "model.safetensors", seeded_weights(directory), "BF16")
        (directory / WEIGHTS_FILE).unlink()
    if name == "xlm_roberta":
        write_unigram(directory)
    elif name in ("bert", "nomic_bert", "jina_bert"):
        words = [
            "[PAD]",
            "[UNK]",
            "[CLS]",
            "[SEP]",
            "[MASK]",
            *(chr(code) for code in range(0x4E00, 0x4E00 + 267)),
        ]
        (directory / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    else:
        write_tokenizer(directory)
    return directory


def change_config(source: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Has `change` edit the content of config.json."""
    path = source / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


def rename_tensors(source: Path, rename: Callable[[str], str]) -> None:
    """Gives the tensors of a checkpoint of one BF16 file other names."""
    path = source / "model.safetensors"
    tensors = {rename(name): values for name, values in read_safetensors(path).items()}
    write_safetensors(path, tensors, "BF16")


def read_safetensors(path: Path) -> dict[str, NDArray[np.float32]]:
    """The tensors of a file that holds nothing but BF16."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        raw = np.frombuffer(data[start + begin : start + end], "<u2").astype(np.uint32)
        tensors[name] = (raw << 16).view(np.float32).reshape(entry["shape"])
    return tensors


def write_tokenizer(directory: Path) -> None:
    (directory / "tokenizer.json").write_text(json.dumps(byte_tokenizer()))
    (directory / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|end|>"}))


def write_unigram(directory: Path) -> None:
    """As XLM-RoBERTa's, of 272 tokens, with a table that rewrites some characters."""
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    chars = dict.fromkeys("▁etaoinshrdlucmfywgpbvkxjqz0123456789.,'-\"приветмир日本語")
    words = [f"▁{word[:size]}" for word in ("quick", "fox", "texts") for size in range(1, 6)]
    pieces = list(dict.fromkeys([*chars, *words, "in", "er", "th", "▁th", "▁the", "▁a"]))
    pieces += [chr(code) for code in range(0x4E00, 0x4E00 + 267 - len(pieces))]
    vocab = [[text, 0.0] for text in special]
    vocab += [[text, -3.0 - index / 37] for index, text in enumerate(pieces)]
    vocab += [["<mask>", 0.0]]
    spaces = dict.fromkeys("\t\n\r\u00a0\u2003\u3000", " ")
    table = charsmap({**spaces, "ﬁ": "fi", "Ａ": "A", "…": "..."})
    added = [*enumerate(special), (len(vocab) - 1, "<mask>")]
    flags = dict.fromkeys(("single_word", "rstrip", "normalized"), False)
    tokenizer = {
        "version": "1.0",
        "added_tokens": [
            {"id": i, "content": text, "special": True, "lstrip": text == "<mask>", **flags}
            for i, text in added
        ],
        "normalizer": {
            "type": "Precompiled",
            "precompiled_charsmap": base64.b64encode(table).decode(),
        },
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "WhitespaceSplit"},
                {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"},
            ],
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "<s>", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "</s>", "type_id": 0}},
            ],
            "pair": [
                {"SpecialToken": {"id": "<s>", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "</s>", "type_id": 0}},
                {"SpecialToken": {"id": "</s>", "type_id": 0}},
                {"Sequence": {"id": "B", "type_id": 0}},
                {"SpecialToken": {"id": "</s>", "type_id": 0}},
            ],
            "special_tokens": {
                text: {"id": text, "ids": [i], "tokens": [text]}
                for i, text in enumerate(special)
                if text in ("<s>", "</s>")
            },
        },
        "model": {"type": "Unigram", "unk_id": 3, "vocab": vocab, "byte_fallback": False},
    }
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer))
    roles = {"bos": "<s>", "eos": "</s>", "sep": "</s>", "cls": "<s>", "pad": "<pad>"}
    roles |= {"unk": "<unk>", "mask": "<mask>"}
    named = {f"{role}_token": text for role, text in roles.items()}
    (directory / "tokenizer_config.json").write_text(json.dumps(named))


def byte_tokenizer() -> dict[str, Any]:
    """A byte-level BPE of the 256 bytes, one merge and an end token: 258 tokens."""
    base = json.loads((EMBEDDED / "novels-6m" / "tokenizer.json").read_text())
    alphabet = [
        text
        for text, _ in sorted(base["model"]["vocab"].items(), key=lambda item: item[1])
        if len(text) == 1
    ]
    base["model"]["vocab"] = {text: i for i, text in enumerate([*alphabet, "he", "<|end|>"])}
    base["model"]["merges"] = [["h", "e"]]
    base["added_tokens"] = [
        {**base["added_tokens"][0], "id": len(alphabet) + 1, "content": "<|end|>"}
    ]
    return base

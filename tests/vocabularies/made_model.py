"""Writes language models of a few thousand random weights, for any vocabulary.

Knows no tokenizer: what a vocabulary consists of is handed in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import gguf
import numpy as np

WIDTH = 32
FEED_FORWARD = 48
NUM_HEADS = 2
TRAIN_CTX = 2048
Key = int | float | bool | str | bytes | bytearray


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """As a GGUF has it; `keys` are further ones, without their `tokenizer.ggml.`."""

    model: str
    tokens: list[str]
    types: list[gguf.TokenType]
    scores: list[float] | None = None
    merges: list[str] | None = None
    keys: Mapping[str, Key] = field(default_factory=dict)
    chat_template: str = ""

    def id_of(self, token: str) -> int:
        return self.tokens.index(token)


def write_made_model(
    path: Path,
    vocabulary: Vocabulary,
    *,
    name: str = "made up",
    pooling: gguf.PoolingType | None = None,
) -> Path:
    """A llama of one layer; the same vocabulary gives the same bytes."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(name)
    writer.add_block_count(1)
    writer.add_context_length(TRAIN_CTX)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(NUM_HEADS)
    writer.add_head_count_kv(NUM_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // NUM_HEADS)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    if pooling is not None:
        writer.add_pooling_type(pooling)
    add_vocabulary(writer, vocabulary)
    _add_weights(writer, len(vocabulary.tokens))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_vocabulary(path: Path, vocabulary: Vocabulary) -> Path:
    """A file without weights."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("made up")
    add_vocabulary(writer, vocabulary)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def add_vocabulary(writer: gguf.GGUFWriter, vocabulary: Vocabulary) -> None:
    writer.add_tokenizer_model(vocabulary.model)
    if vocabulary.tokens:
        writer.add_token_list(vocabulary.tokens)
    if vocabulary.types:
        writer.add_token_types(vocabulary.types)
    if vocabulary.scores:
        writer.add_token_scores(vocabulary.scores)
    if vocabulary.merges:
        writer.add_token_merges(vocabulary.merges)
    for key, value in vocabulary.keys.items():
        _add_key(writer, f"tokenizer.ggml.{key}", value)
    if vocabulary.chat_template:
        writer.add_chat_template(vocabulary.chat_template)


def _add_key(writer: gguf.GGUFWriter, key: str, value: Key) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, bytes(value))


def _add_weights(writer: gguf.GGUFWriter, num_tokens: int) -> None:
    rng = np.random.default_rng(7)

    def add(name: str, *shape: int) -> None:
        values = rng.normal(0.0, 0.4, shape) if len(shape) > 1 else np.ones(shape)
        writer.add_tensor(name, values.astype(np.float32))

    add("token_embd.weight", num_tokens, WIDTH)
    add("output_norm.weight", WIDTH)
    add("output.weight", num_tokens, WIDTH)
    for part in ("attn_norm", "ffn_norm"):
        add(f"blk.0.{part}.weight", WIDTH)
    for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
        add(f"blk.0.{part}.weight", WIDTH, WIDTH)
    add("blk.0.ffn_gate.weight", FEED_FORWARD, WIDTH)
    add("blk.0.ffn_up.weight", FEED_FORWARD, WIDTH)
    add("blk.0.ffn_down.weight", WIDTH, FEED_FORWARD)

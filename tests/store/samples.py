"""Small GGUF files of known shape, written by gguf's own writer.

Their weights are zeros: nobody decodes them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

Type = gguf.GGMLQuantizationType


@dataclass(frozen=True)
class Sample:
    """A llama of the given sizes; `head_size` is the width of one head of K and V."""

    layers: int = 2
    embedding: int = 256
    feed_forward: int = 512
    heads: int = 4
    kv_heads: int = 2
    head_size: int = 64
    train_ctx: int = 8192
    tokens: int = 300
    file_type: int = gguf.LlamaFileType.MOSTLY_Q8_0
    ggml_type: Type = Type.Q8_0


def write_sample(
    path: Path,
    sample: Sample,
    extra: Iterable[tuple[str, int | str]] = (),
    *,
    split_max_tensors: int = 0,
) -> Path:
    """Writes `sample` and returns its path; `extra` are further metadata.

    With `split_max_tensors` it is written in parts, `NAME-00001-of-...` and on.
    """
    writer = gguf.GGUFWriter(path, "llama", split_max_tensors=split_max_tensors)
    writer.add_block_count(sample.layers)
    writer.add_context_length(sample.train_ctx)
    writer.add_embedding_length(sample.embedding)
    writer.add_feed_forward_length(sample.feed_forward)
    writer.add_head_count(sample.heads)
    writer.add_head_count_kv(sample.kv_heads)
    writer.add_key_length(sample.head_size)
    writer.add_value_length(sample.head_size)
    writer.add_file_type(sample.file_type)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"token{index}" for index in range(sample.tokens)])
    writer.add_token_types([1] * sample.tokens)
    writer.add_token_merges([f"a{index} b{index}" for index in range(10)])
    for key, value in extra:
        if isinstance(value, int):
            writer.add_uint32(key, value)
        else:
            writer.add_string(key, value)
    _add_matrix(writer, "token_embd.weight", sample.embedding, sample.tokens, sample.ggml_type)
    writer.add_tensor("output_norm.weight", np.ones(sample.embedding, np.float32))
    for layer in range(sample.layers):
        _add_matrix(
            writer,
            f"blk.{layer}.ffn_up.weight",
            sample.embedding,
            sample.feed_forward,
            sample.ggml_type,
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_matrix(
    writer: gguf.GGUFWriter, name: str, columns: int, rows: int, ggml_type: Type
) -> None:
    block, block_bytes = gguf.GGML_QUANT_SIZES[ggml_type]
    data = np.zeros((rows, columns // block * block_bytes), np.uint8)
    writer.add_tensor(name, data, raw_dtype=ggml_type)

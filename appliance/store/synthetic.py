"""Writes a GGUF of a given shape with random weights: for timing, not for reading.

Knows the block layouts of a few ggml types and a made-up vocabulary; calls nothing
native. Not for the serving parent: it imports gguf, and so NumPy.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import gguf
import numpy as np
import numpy.typing as npt

from appliance.store.ggml_types import TYPES_BY_NAME, row_bytes

_CHUNK_BYTES = 16 << 20  # of weights held in memory at once
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_SPACE = "Ġ"  # a space in GPT-2's alphabet
_SPECIAL_TOKENS = ("<|begin_of_text|>", "<|end_of_text|>")  # of Llama 3: names that llama.cpp knows
_NUM_BYTES = 256
_MIN_VOCAB = _NUM_BYTES + 1 + len(_SPECIAL_TOKENS)  # a BPE vocabulary has at least one merge


@dataclass(frozen=True, kw_only=True)
class RandomShape:
    """A llama's dimensions."""

    num_layers: int
    embd: int  # width in values
    ff: int  # width in values
    heads: int
    kv_heads: int
    vocab: int
    ctx: int  # tokens; what it is said to be trained for

    @property
    def kv_width(self) -> int:
        return self.embd // self.heads * self.kv_heads


@dataclass(frozen=True)
class _Layout:
    """A block as in ggml/src/ggml-common.h (`block_q4_K` and its like), and its values
    where its bytes are random.

    Their standard deviation is `deviation` times the field `d`; `dmin` is `min_ratio`
    times `d`, so that their mean is 0. With u(n) for a uniform integer below n:

        Q8_0  d * (u(256) - 128)
        Q2_K  d * u(16) * u(4) - dmin * u(16)
        Q4_K  d * u(64) * u(16) - dmin * u(64)
        Q6_K  d * (u(256) - 128) * (u(64) - 32)
    """

    block: np.dtype[np.void]
    file_type: gguf.LlamaFileType
    deviation: float
    min_ratio: float = 0.0


_LAYOUTS = {
    "Q8_0": _Layout(
        np.dtype([("d", "<f2"), ("qs", "u1", 32)]), gguf.LlamaFileType.MOSTLY_Q8_0, 73.9
    ),
    "Q2_K": _Layout(
        np.dtype([("scales", "u1", 16), ("qs", "u1", 64), ("d", "<f2"), ("dmin", "<f2")]),
        gguf.LlamaFileType.MOSTLY_Q2_K,
        13.9,
        1.5,
    ),
    "Q4_K": _Layout(
        np.dtype([("d", "<f2"), ("dmin", "<f2"), ("scales", "u1", 12), ("qs", "u1", 128)]),
        gguf.LlamaFileType.MOSTLY_Q4_K_S,
        258.3,
        7.5,
    ),
    "Q6_K": _Layout(
        np.dtype([("ql", "u1", 128), ("qh", "u1", 64), ("scales", "u1", 16), ("d", "<f2")]),
        gguf.LlamaFileType.MOSTLY_Q6_K,
        1365.8,
    ),
}
TYPE_NAMES = ("F16", *_LAYOUTS)


@dataclass(frozen=True)
class _Tensor:
    """A tensor to write."""

    name: str
    rows: int
    columns: int | None = None  # None for a vector, which is always F32


def write_random_model(
    path: Path, shape: RandomShape, type_name: str = "Q4_K", seed: int = 0
) -> None:
    """Writes a llama with tied output whose matrices are all
    of `type_name`, in bounded memory.

    The same arguments write the same bytes. The file takes its name only when whole.
    Raises `ValueError` for a shape that the type's blocks, the attention heads or the
    vocabulary do not allow.
    """
    _check(shape, type_name)
    partial = path.with_name(f"{path.name}.partial")
    _write_header(partial, shape, type_name)
    rng = np.random.default_rng(seed)
    with partial.open("ab") as file:
        _pad(file)
        for tensor in _tensors(shape):
            for chunk in _chunks(tensor, type_name, rng):
                file.write(chunk)
            _pad(file)
    partial.replace(path)


def num_tensor_bytes(shape: RandomShape, type_name: str = "Q4_K") -> int:
    """Bytes of all tensors with their alignment: the file's size less its header's."""
    return sum(_aligned(_num_bytes(tensor, type_name)) for tensor in _tensors(shape))


def _check(shape: RandomShape, type_name: str) -> None:
    if type_name not in TYPE_NAMES:
        raise ValueError(f"random weights can be of type {', '.join(TYPE_NAMES)} (got {type_name})")
    block_values = TYPES_BY_NAME[type_name].block_values
    if shape.embd % block_values or shape.ff % block_values:
        raise ValueError(f"{type_name} needs widths that are multiples of {block_values}: {shape}")
    if shape.embd % shape.heads or shape.embd // shape.heads % 2 or shape.heads % shape.kv_heads:
        raise ValueError(
            f"heads must divide the width into even parts, and KV heads the heads: {shape}"
        )
    if shape.vocab < _MIN_VOCAB:
        raise ValueError(f"a vocabulary has at least {_MIN_VOCAB} tokens: {shape}")


def _tensors(shape: RandomShape) -> Iterator[_Tensor]:
    """In file order.

    Output is tied: `token_embd` serves as `output` too (llama.cpp
    src/models/llama.cpp).
    """
    yield _Tensor("token_embd.weight", shape.vocab, shape.embd)
    yield _Tensor("output_norm.weight", shape.embd)
    for layer in range(shape.num_layers):
        yield _Tensor(f"blk.{layer}.attn_norm.weight", shape.embd)
        yield _Tensor(f"blk.{layer}.attn_q.weight", shape.embd, shape.embd)
        yield _Tensor(f"blk.{layer}.attn_k.weight", shape.kv_width, shape.embd)
        yield _Tensor(f"blk.{layer}.attn_v.weight", shape.kv_width, shape.embd)
        yield _Tensor(f"blk.{layer}.attn_output.weight", shape.embd, shape.embd)
        yield _Tensor(f"blk.{layer}.ffn_norm.weight", shape.embd)
        yield _Tensor(f"blk.{layer}.ffn_gate.weight", shape.ff, shape.embd)
        yield _Tensor(f"blk.{layer}.ffn_up.weight", shape.ff, shape.embd)
        yield _Tensor(f"blk.{layer}.ffn_down.weight", shape.embd, shape.ff)


# --- header ---------------------------------------------------------------------------


def _write_header(path: Path, shape: RandomShape, type_name: str) -> None:
    """Everything before the weights (ggml docs/gguf.md)."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(f"random {type_name}")
    writer.add_block_count(shape.num_layers)
    writer.add_context_length(shape.ctx)
    writer.add_embedding_length(shape.embd)
    writer.add_feed_forward_length(shape.ff)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.embd // shape.heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(shape.vocab)
    writer.add_file_type(
        _LAYOUTS[type_name].file_type if type_name in _LAYOUTS else gguf.LlamaFileType.MOSTLY_F16
    )
    _add_vocabulary(writer, shape.vocab)
    for tensor in _tensors(shape):
        dtype = (
            gguf.GGMLQuantizationType.F32
            if tensor.columns is None
            else gguf.GGMLQuantizationType[type_name]
        )
        dimensions = [tensor.rows] if tensor.columns is None else [tensor.rows, tensor.columns]
        num_bytes = _num_bytes(tensor, type_name)
        writer.add_tensor_info(
            tensor.name, dimensions, np.dtype(np.float32), num_bytes, raw_dtype=dtype
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()


def _add_vocabulary(writer: gguf.GGUFWriter, num_tokens: int) -> None:
    """A byte-level BPE: the bytes in order, then words of ever more letters, then the
    special tokens.
    """
    words, merges = _words(num_tokens - _NUM_BYTES - len(_SPECIAL_TOKENS))
    num_normal = num_tokens - len(_SPECIAL_TOKENS)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([*_byte_alphabet(), *words, *_SPECIAL_TOKENS])
    writer.add_token_types(
        [gguf.TokenType.NORMAL] * num_normal + [gguf.TokenType.CONTROL] * len(_SPECIAL_TOKENS)
    )
    writer.add_token_merges(merges)
    writer.add_bos_token_id(num_tokens - 2)
    writer.add_eos_token_id(num_tokens - 1)
    writer.add_add_bos_token(True)


def _byte_alphabet() -> list[str]:
    """GPT-2's name of each byte: itself where printable, else a letter from 256 on
    (openai/gpt-2, encoder.py).
    """
    printable = {
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    }
    others = itertools.count(256)
    return [chr(byte if byte in printable else next(others)) for byte in range(_NUM_BYTES)]


def _words(count: int) -> tuple[list[str], list[str]]:
    """The first `count` words of a space and letters, shorter ones first, and the merge
    that makes each.
    """
    words: list[str] = []
    merges: list[str] = []
    # grows while it is read: every word is the stem of 26 longer ones
    stems = itertools.chain([_SPACE], words)
    for stem, letter in itertools.islice(
        ((stem, letter) for stem in stems for letter in _LETTERS), count
    ):
        words.append(stem + letter)
        merges.append(f"{stem} {letter}")
    return words, merges


# --- weights --------------------------------------------------------------------------


def _num_bytes(tensor: _Tensor, type_name: str) -> int:
    if tensor.columns is None:
        return row_bytes(TYPES_BY_NAME["F32"], tensor.rows)
    return tensor.rows * row_bytes(TYPES_BY_NAME[type_name], tensor.columns)


def _chunks(tensor: _Tensor, type_name: str, rng: np.random.Generator) -> Iterator[bytes]:
    """A tensor's bytes, some rows at a time; norms are ones."""
    if tensor.columns is None:
        yield np.ones(tensor.rows, "<f4").tobytes()
        return
    # F32, which F16 is made from, is the widest
    rows_per_chunk = max(1, _CHUNK_BYTES // (4 * tensor.columns))
    for first in range(0, tensor.rows, rows_per_chunk):
        yield _random_rows(min(rows_per_chunk, tensor.rows - first), tensor.columns, type_name, rng)


def _random_rows(num_rows: int, columns: int, type_name: str, rng: np.random.Generator) -> bytes:
    """Values of deviation 1 / sqrt(columns), so that a product with a normalized input
    is of the size of that input.
    """
    deviation = columns**-0.5
    if type_name == "F16":
        values = rng.standard_normal((num_rows, columns), dtype=np.float32)
        halves: npt.NDArray[np.float16] = (values * np.float32(deviation)).astype(np.float16)
        return halves.tobytes()
    layout = _LAYOUTS[type_name]
    num_bytes = num_rows * row_bytes(TYPES_BY_NAME[type_name], columns)
    blocks = rng.integers(0, 256, num_bytes, dtype=np.uint8).view(layout.block)
    blocks["d"] = deviation / layout.deviation
    if layout.min_ratio:
        blocks["dmin"] = layout.min_ratio * deviation / layout.deviation
    return blocks.tobytes()


def _aligned(num_bytes: int) -> int:
    return -(-num_bytes // gguf.GGUF_DEFAULT_ALIGNMENT) * gguf.GGUF_DEFAULT_ALIGNMENT


def _pad(file: BinaryIO) -> None:
    file.write(bytes(_aligned(file.tell()) - file.tell()))

"""The bytes a model takes when it is served, from its GGUF header alone. Knows no machine and makes no choice.

Formulas follow llama.cpp as pinned in pyproject.toml; the constants were measured with it on CPython 3.11, x86-64,
2026-11 (anonymous and file-mapped pages of /proc/PID/smaps_rollup). Against the worker's real peak with every
cell in use, 512-row steps and 4 slots the estimate is 1.0 and 0.1 % high for the embedded model (Q8_0 with f16 KV,
Q4_K_M with q8_0), and 5 to 7 % for a random one (8 layers, 768 wide, vocabulary 32,000; Q8_0 and Q4_K, both KV types,
with and without repacking): about 5 MiB of that are for samplers and token texts, which that run did not use.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

from appliance.fit.shape import ModelShape
from appliance.store.ggml_types import TYPES_BY_NAME, GgmlType, row_bytes
from appliance.store.gguf_header import GgufHeader

CELL_PADDING = 256  # llama-context.cpp: n_ctx = GGML_PAD(n_ctx, 256)

_MIB = 1 << 20
# The server, its imports done and answering (51 MiB before the first request), and the worker without a model: 45 MiB
# of Python and bindings, and 5 that llama.cpp adds whatever the model (its code, graphs, small buffers).
PARENT_BYTES = 60 * _MIB
PROCESSES_BYTES = PARENT_BYTES + 50 * _MIB
# Loading just a vocabulary: 2.9 MiB for 1,000 tokens, 12.4 for 32,000, 43.0 for 128,256 with as many BPE merges and
# 63.4 with 280,000. On top of it the worker keeps the bytes of every token it has ever written, as Python objects.
_VOCAB_BASE_BYTES = int(2.4 * _MIB)
_VOCAB_TOKEN_BYTES = 191 + 120
_VOCAB_MERGE_BYTES = 141
# A request body grows when it is parsed: token ids 6.2 times, `{"":1},` over and over 27.6 times, plain text hardly.
PARSED_BYTES_PER_BODY_BYTE = 28
_BODY_BYTES_PER_TOKEN = 64  # ids take 8, text about 5, and up to 12 where every character is escaped
_LEAST_BODY_BYTES = _MIB
_MOST_BODY_BYTES = 16 * _MIB
_SAMPLED_TOKEN_BYTES = 12  # llama_token_data: id, logit, p; one array of the vocabulary's size per slot
_POSITION_BYTES = 32  # per row of a step: token, position, KV index, output index, and what alignment adds
_TILE = 64  # ggml-cpu/common.h: GGML_FA_TILE_Q, GGML_FA_TILE_KV


@dataclass(frozen=True)
class ServeSize:
    """The settings that decide memory: cells and rows in tokens, `kv_type` a ggml type name in lower case, or
    two of them for K and V (`q8_0/q4_0`). `ubatch_rows` of a step's `max_batch_rows` are computed together.

    `max_body_bytes` bounds one request's body. `repacked_types` are the weight formats that this CPU keeps a second,
    rearranged copy of; empty without extra buffer types.
    """

    kv_cells: int
    slots: int
    max_batch_rows: int
    kv_type: str
    threads: int
    flash_attention: bool
    ubatch_rows: int
    repacked_types: frozenset[str] = frozenset()
    max_body_bytes: int = 0

    @property
    def num_sequences(self) -> int:
        """One per slot, and the scratch sequence through which prefixes are saved."""
        return self.slots + 1


@dataclass(frozen=True)
class Footprint:
    """Bytes at the worst moment of serving. `weights` are mapped from the file, everything else is anonymous memory."""

    weights_bytes: int
    repacked_bytes: int
    kv_bytes: int
    compute_bytes: int
    output_bytes: int
    vocabulary_bytes: int
    processes_bytes: int
    parsing_bytes: int

    @property
    def shared_bytes(self) -> int:
        """What a further model does not take again."""
        return PARENT_BYTES + self.parsing_bytes

    @property
    def worker_anonymous_bytes(self) -> int:
        return self.total_bytes - self.weights_bytes - self.shared_bytes

    @property
    def total_bytes(self) -> int:
        return sum(dataclasses.astuple(self))


def footprint(header: GgufHeader, shape: ModelShape, size: ServeSize) -> Footprint:
    """What serving this file at this size takes.

    The weights count whole: llama.cpp maps the file, and after a few steps every page of it is resident. The originals
    of repacked tensors could be evicted again, but stay while nobody else wants the memory, so they count too.
    """
    return Footprint(
        weights_bytes=header.num_file_bytes,
        repacked_bytes=_repacked_bytes(header, size.repacked_types),
        kv_bytes=padded_cells(size.kv_cells) * kv_cell_bytes(shape, size.kv_type),
        compute_bytes=_graph_bytes(shape, size) + _work_bytes(shape, size),
        output_bytes=size.num_sequences * shape.num_vocab * (4 + _SAMPLED_TOKEN_BYTES),
        vocabulary_bytes=_VOCAB_BASE_BYTES
        + shape.num_vocab * _VOCAB_TOKEN_BYTES
        + shape.num_merges * _VOCAB_MERGE_BYTES,
        processes_bytes=PROCESSES_BYTES,
        parsing_bytes=size.max_body_bytes * PARSED_BYTES_PER_BODY_BYTE,
    )


def shared_bytes(max_body_bytes: int) -> int:
    """`Footprint.shared_bytes`, before there is a model."""
    return PARENT_BYTES + max_body_bytes * PARSED_BYTES_PER_BODY_BYTE


def largest_body_bytes(ctx: int) -> int:
    """The bound on a request's body that suits a context of `ctx` tokens: generous, for JSON may be written wide."""
    return min(max(ctx * _BODY_BYTES_PER_TOKEN, _LEAST_BODY_BYTES), _MOST_BODY_BYTES)


def padded_cells(kv_cells: int) -> int:
    return -(-kv_cells // CELL_PADDING) * CELL_PADDING


def kv_cell_bytes(shape: ModelShape, kv_type: str) -> int:
    """Bytes of one token in the KV cache: a row of K and a row of V in every layer (llama-kv-cache.cpp)."""
    k_type, v_type = _k_and_v(kv_type)
    return sum(
        row_bytes(k_type, heads * shape.key_length) + row_bytes(v_type, heads * shape.value_length)
        for heads in shape.num_kv_heads
    )


def allows_kv_type(shape: ModelShape, kv_type: str) -> bool:
    """Whether heads are whole blocks of the type, which llama.cpp demands of a quantized KV cache."""
    k_type, v_type = _k_and_v(kv_type)
    return shape.key_length % k_type.block_values == 0 and shape.value_length % v_type.block_values == 0


def _k_and_v(kv_type: str) -> tuple[GgmlType, GgmlType]:
    """`q8_0` is the type of both, `q8_0/q4_0` of K and of V."""
    k_name, _, v_name = kv_type.upper().partition("/")
    return TYPES_BY_NAME[k_name], TYPES_BY_NAME[v_name or k_name]


def repacked_types(cpu_flags: Iterable[str]) -> frozenset[str]:
    """The weight formats of which a CPU with these flags of /proc/cpuinfo gets a rearranged copy.

    From ggml-cpu/repack.cpp (`ggml_repack_get_optimal_repack_type`) and ggml-cpu/amx/common.h; a library built
    without AMX repacks fewer.
    """
    flags = set(cpu_flags)
    types: set[str] = set()
    if "avx2" in flags:
        types |= {"Q4_0", "Q4_K", "IQ4_NL", "MXFP4"}
    if "avx512f" in flags:
        types |= {"Q2_K"}
    if "amx_int8" in flags:
        types |= {"Q4_0", "Q4_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS"}
    if "asimddp" in flags or "i8mm" in flags:  # 64-bit Arm
        types |= {"Q4_0", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "MXFP4", "Q8_0", "Q1_0"}
    return frozenset(types)


def _repacked_bytes(header: GgufHeader, types: frozenset[str]) -> int:
    """Matrices of these types; an embedding that is also the output matrix is multiplied with, so it counts."""
    output_is_embedding = all(tensor.name != "output.weight" for tensor in header.tensors)
    return sum(
        tensor.num_bytes
        for tensor in header.tensors
        if tensor.ggml_type.name in types
        and len(tensor.shape) > 1
        and (output_is_embedding or tensor.name != "token_embd.weight")
    )


def _graph_bytes(shape: ModelShape, size: ServeSize) -> int:
    """The compute buffer that llama.cpp reserves for one full step (llama-context.cpp, `sched_reserve`).

    The attention mask (cells x rows, f16 with flash attention, else f32) plus the largest set of values alive at once;
    without flash attention the scores of all heads, cells and rows are among them. Found by dry loads of 24 shapes:
    exact for feed-forward widths from 2.5 times the embedding on; below that, and with quantized KV, up to a quarter
    too much.
    """
    cells = padded_cells(size.kv_cells)
    rows = min(size.ubatch_rows, cells)
    in_feed_forward = 3 * shape.feed_forward + shape.experts_out + 4 * shape.embedding
    in_attention = 3 * shape.embedding + 2 * shape.attention + 2 * shape.max_kv_width
    if not size.flash_attention:
        rows = -(-rows // size.num_sequences) * size.num_sequences  # equal parts
        mask = 4 * cells * rows
        in_attention += shape.num_heads * cells
    else:
        mask = 2 * cells * rows
    in_output = 2 * shape.embedding * rows + size.num_sequences * shape.num_vocab
    return mask + 4 * max(rows * max(in_feed_forward, in_attention), in_output) + _POSITION_BYTES * rows


def _work_bytes(shape: ModelShape, size: ServeSize) -> int:
    """Scratch of the CPU backend (ggml-cpu.c, `ggml_graph_plan`): its largest operation's.

    A matrix product converts its input to the weights' partner type (at most 2 bytes a value), and so the attention
    scores before they are multiplied with V; flash attention has tiles per thread.
    """
    widest = max(shape.feed_forward, shape.embedding, shape.attention)
    if not size.flash_attention:
        num_scores = shape.num_heads * padded_cells(size.kv_cells)
        return 2 * max(size.ubatch_rows * num_scores, size.max_batch_rows * widest)
    tiles = _TILE * (2 * shape.key_length + 2 * shape.value_length + 2 * _TILE)
    return max(2 * size.max_batch_rows * widest, 4 * size.threads * tiles)

"""The bytes a model takes when it is served, from its GGUF header alone.

Knows no machine and makes no choice.

Formulas follow llama.cpp as pinned in pyproject.toml; the constants were measured with
it on CPython 3.11, x86-64, 2026-11. What llama.cpp itself reports for its buffers is
more exact, and costs a child process: `reserved_by_llama_cpp`. How far prediction and
measurement are apart: docs/performance.md, from `python -m bench.memory_grid`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from appliance.fit.plan import embedding
from appliance.fit.plan.budget import MIN_HEADROOM_BYTES
from appliance.fit.plan.kernel_scratch import kernel_scratch_bytes
from appliance.fit.plan.kv_cache import kv_layer_bytes, padded_cells, window_cells
from appliance.fit.plan.shape import ModelShape, head_tensors
from appliance.fit.plan.weights import repacked_bytes, tables_of, touched_bytes
from appliance.protocol.context_sizes import ContextSizes
from appliance.store.gguf_header import GgufHeader

_MIB = 1 << 20
# Anonymous memory of the server while it streams, and of a worker before its model;
# code of both, mapped from files that they share: Python, its modules, llama.cpp. Small
# buffers of llama.cpp, threads, graphs: whatever the model.
PARENT_BYTES = 68 * _MIB
_WORKER_BYTES = 27 * _MIB
CODE_BYTES = 34 * _MIB
# of it what is run for every token; the rest can be dropped and read again
BUSY_CODE_BYTES = 5 * _MIB
SMALL_BUFFERS_BYTES = 2 * _MIB
# Loading just a vocabulary: 3.2 MiB for 4,096 tokens, 10.7 for 32,000, 37.4 for
# 128,256, each with as many BPE merges. On top of it the worker keeps the texts of some
# thousands of tokens.
_VOCAB_BASE_BYTES = int(2.0 * _MIB)
_VOCAB_TOKEN_BYTES = 150
_VOCAB_MERGE_BYTES = 141
# The compiler of grammars, its view of the vocabulary, and a few answers' grammars;
# from the first of them on.
_GRAMMAR_BASE_BYTES = 6 * _MIB
_GRAMMAR_TOKEN_BYTES = 270
# Processes that render chat templates: three lanes, each with a copy that waits. Most of
# a copy is shared with what it was copied from: 5 MiB of its own each (2026-11-29,
# Pss_Anon in /proc/PID/smaps_rollup after a chat).
_TEMPLATE_BYTES = 3 * 2 * 5 * _MIB
# A request body grows when it is parsed: token ids 6.2 times, `{"":1},` over and over
# 27.6 times, plain text hardly.
PARSED_BYTES_PER_BODY_BYTE = 28
# ids take 8, text about 5, and up to 12 where every character is escaped
_BODY_BYTES_PER_TOKEN = 64
_LEAST_BODY_BYTES = _MIB
_MOST_BODY_BYTES = 16 * _MIB
# llama_token_data (id, logit, p): of the whole vocabulary for each thread that samples
_CANDIDATE_BYTES = 12
# GGUF's keys of those that are used
_TEMPLATES = ("tokenizer.chat_template", "tokenizer.chat_template.tool_use")
_MOST_SAMPLER_THREADS = 8  # appliance/llama/sampling/choosing.py
# per row of a step: token, position, KV index, output index, and what alignment adds
_POSITION_BYTES = 32
_TOKEN_BYTES = 200  # what the engine's Python knows of each token in a cell
_LOOKUP_TOKEN_BYTES = (
    106  # and what prompt lookup knows of it (appliance/engine/drafting/prompt_lookup.py)
)
_LOOKUP_PAST_TOKENS = 1 << 14
_SCORE_ROWS = 32
_LEAST_ROW_CELLS = 128 * 1024
_TILE = 64  # ggml-cpu/common.h: GGML_FA_TILE_Q, GGML_FA_TILE_KV


@dataclass(frozen=True, kw_only=True)
class ServeSize:
    """The settings that decide how much memory serving takes."""

    sizes: ContextSizes
    # Weight formats that this CPU keeps a second, rearranged copy of; empty without
    # extra buffer types.
    repacked_types: frozenset[str] = frozenset()
    max_body_bytes: int = 0  # of one request
    use_mmap: bool = True  # else the file is read into memory
    whole_steps: bool = False  # steps are not made smaller where the cells are many
    own_kernels: bool = False  # compute it, and need room of their own
    moves_cells: bool = False  # to other positions
    whole_tables: bool = False  # such as per-layer embeddings, where GPUs compute too
    adapter_bytes: int = 0  # their numbers
    embeds: bool = False  # makes vectors, of inputs of up to `ubatch_rows` tokens

    def resized(self, **changes: Any) -> ServeSize:
        """With other `ContextSizes`, by field."""
        return dataclasses.replace(self, sizes=dataclasses.replace(self.sizes, **changes))

    @property
    def max_row_cells(self) -> int | None:
        """Rows of a step times the cells that they scan: where all scores are kept, no
        step may have more.

        A prompt is computed no faster by more than `_SCORE_ROWS` rows at once once it
        has a thousand cells.
        """
        if self.sizes.flash_attention:
            return None
        cells = padded_cells(self.sizes.kv_cells)
        if self.whole_steps:
            return self.sizes.ubatch_rows * cells
        wanted = max(_LEAST_ROW_CELLS, max(_SCORE_ROWS, self.num_sequences) * cells)
        return min(self.sizes.ubatch_rows * cells, wanted)

    @property
    def num_sequences(self) -> int:
        """One per slot, and the scratch sequence through which prefixes are saved."""
        return self.sizes.slots + 1

    @property
    def num_states(self) -> int:
        """Those of all sequences, with the earlier ones that are kept of each
        (llama-memory-recurrent.cpp).
        """
        return self.num_sequences * (1 + self.sizes.rollback_states)

    @property
    def num_outputs(self) -> int:
        """Rows of a step that may have logits."""
        return self.num_sequences + self.sizes.max_draft_rows


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """Bytes at the worst moment of serving;
    anonymous memory where nothing else is said.
    """

    weights_bytes: int  # mapped from the file, with `weights_are_mapped`
    repacked_bytes: int
    kv_bytes: int
    compute_bytes: int
    scratch_bytes: int
    output_bytes: int
    vocabulary_bytes: int
    grammar_bytes: int
    worker_bytes: int
    parent_bytes: int  # there once, however many models are served
    code_bytes: int  # mapped from files, and there once
    parsing_bytes: int
    template_bytes: int = 0
    draft_bytes: int = 0
    table_bytes: int = 0  # mapped from the file: the rows that are used of tables
    adapter_bytes: int = 0
    weights_are_mapped: bool = True
    is_llama_cpps: bool = False  # KV cache and compute buffers as llama.cpp reserves them

    def reserved_by_llama_cpp(self, kv_bytes: int, compute_bytes: int) -> Footprint:
        """The same with what a dry load reports.

        Its compute buffers are those of a full step: the least upper bound, and more
        than what is touched where `max_row_cells` keeps steps smaller.
        """
        compute_bytes = min(self.compute_bytes, compute_bytes)
        return dataclasses.replace(
            self, kv_bytes=kv_bytes, compute_bytes=compute_bytes, is_llama_cpps=True
        )

    @property
    def mapped_bytes(self) -> int:
        weights_bytes = self.weights_bytes if self.weights_are_mapped else 0
        return self.code_bytes + self.table_bytes + weights_bytes

    @property
    def own_bytes(self) -> int:
        """What a model takes for itself, beside what is there once for all."""
        return self.total_bytes - self.parent_bytes - self.code_bytes - self.parsing_bytes

    @property
    def own_parts(self) -> dict[str, int]:
        """What `own_bytes` is made of, for people, the largest kinds first; none is empty."""
        parts = {
            "weights": self.weights_bytes + self.table_bytes,
            "repacked weights": self.repacked_bytes,
            "KV cache": self.kv_bytes,
            "computing": self.compute_bytes + self.scratch_bytes + self.output_bytes,
            "draft model": self.draft_bytes,
            "adapters": self.adapter_bytes,
            "vocabulary and grammars": self.vocabulary_bytes
            + self.grammar_bytes
            + self.template_bytes,
            "process": self.worker_bytes,
        }
        return {name: num_bytes for name, num_bytes in parts.items() if num_bytes}

    @property
    def shared_bytes(self) -> int:
        """What of `claimed_bytes` a further model does not take again."""
        return self.claimed_bytes - self.own_bytes

    @property
    def worker_anonymous_bytes(self) -> int:
        return self.own_bytes - self.weights_bytes - self.table_bytes

    @property
    def anonymous_bytes(self) -> int:
        return self.total_bytes - self.mapped_bytes

    @property
    def claimed_bytes(self) -> int:
        """What must fit beside a budget's headroom, which is there for code that is
        hardly used and for parsing.
        """
        return (
            self.total_bytes
            - (self.code_bytes - BUSY_CODE_BYTES)
            - min(self.parsing_bytes, MIN_HEADROOM_BYTES)
        )

    @property
    def total_bytes(self) -> int:
        return (
            self.weights_bytes
            + self.repacked_bytes
            + self.kv_bytes
            + self.compute_bytes
            + self.scratch_bytes
            + self.output_bytes
            + self.vocabulary_bytes
            + self.grammar_bytes
            + self.template_bytes
            + self.worker_bytes
            + self.parent_bytes
            + self.code_bytes
            + self.parsing_bytes
            + self.draft_bytes
            + self.table_bytes
            + self.adapter_bytes
        )


def footprint(header: GgufHeader, shape: ModelShape, size: ServeSize) -> Footprint:
    """What serving this file at this size takes.

    The weights count whole: llama.cpp maps the file, and after a few steps every page
    of it is resident. The originals of repacked tensors could be evicted again, but
    stay while nobody else wants the memory, so they count too; where the file is read
    instead of mapped, there are none. Of tables that are mapped, the rows count that are
    used.
    """
    tables = tables_of(header) if size.use_mmap and not size.whole_tables else ()
    weights_bytes = sum(tensor.num_bytes for tensor in header.tensors if tensor not in tables)
    weights_bytes -= sum(tensor.num_bytes for tensor in head_tensors(header))
    repacked = repacked_bytes(header, size.repacked_types)
    num_samplers = min(size.sizes.threads, size.sizes.slots, _MOST_SAMPLER_THREADS)
    if size.embeds:
        compute_bytes = embedding.graph_bytes(header, shape, size.sizes.ubatch_rows)
        output_bytes = embedding.output_bytes(shape, size.sizes.ubatch_rows)
    else:
        compute_bytes = _graph_bytes(shape, size)
        output_bytes = shape.num_vocab * (4 * size.num_outputs + _CANDIDATE_BYTES * num_samplers)
    return Footprint(
        weights_bytes=weights_bytes if size.use_mmap else weights_bytes - repacked,
        repacked_bytes=repacked,
        kv_bytes=sum(kv_layer_bytes(shape, size.sizes)) + size.num_states * shape.state.num_bytes,
        compute_bytes=compute_bytes,
        scratch_bytes=_scratch_bytes(shape, size) + _turning_bytes(shape, size),
        output_bytes=output_bytes,
        vocabulary_bytes=_VOCAB_BASE_BYTES
        + shape.num_vocab * _VOCAB_TOKEN_BYTES
        + shape.num_merges * _VOCAB_MERGE_BYTES,
        grammar_bytes=0
        if size.embeds
        else _GRAMMAR_BASE_BYTES + shape.num_vocab * _GRAMMAR_TOKEN_BYTES,
        template_bytes=0 if size.embeds else _template_bytes(header),
        worker_bytes=_WORKER_BYTES + SMALL_BUFFERS_BYTES + _token_bytes(size),
        parent_bytes=PARENT_BYTES,
        code_bytes=CODE_BYTES,
        parsing_bytes=size.max_body_bytes * PARSED_BYTES_PER_BODY_BYTE,
        table_bytes=sum(touched_bytes(table, size.sizes.kv_cells) for table in tables),
        weights_are_mapped=size.use_mmap,
        adapter_bytes=_adapter_bytes(shape, size),
    )


def _adapter_bytes(shape: ModelShape, size: ServeSize) -> int:
    """Their numbers, read into memory, and what a product's own part takes while it is
    added (llama-graph.cpp, `build_lora_mm`); drafts and tuning have none.
    """
    if not size.adapter_bytes:
        return 0
    widest = max(shape.feed_forward, shape.embedding, shape.attention)
    of_rows = 2 * 4 * size.sizes.ubatch_rows * widest
    return size.adapter_bytes + of_rows + 4 * size.num_outputs * shape.num_vocab


def _template_bytes(header: GgufHeader) -> int:
    return _TEMPLATE_BYTES * sum(key in header.metadata for key in _TEMPLATES)


def _token_bytes(size: ServeSize) -> int:
    """What Python knows of the tokens in cells; with drafts, also to find text that was
    there before.
    """
    num_cells = padded_cells(size.sizes.kv_cells)
    lookup_bytes = (
        _LOOKUP_TOKEN_BYTES * (num_cells + _LOOKUP_PAST_TOKENS) if size.sizes.max_draft_rows else 0
    )
    return _TOKEN_BYTES * num_cells + lookup_bytes


def shared_bytes(max_body_bytes: int) -> int:
    """`Footprint.shared_bytes`, before there is a model."""
    return (
        PARENT_BYTES
        + BUSY_CODE_BYTES
        + max(0, max_body_bytes * PARSED_BYTES_PER_BODY_BYTE - MIN_HEADROOM_BYTES)
    )


def largest_body_bytes(ctx: int) -> int:
    """The bound on a request's body that suits a context of `ctx` tokens: generous, for
    JSON may be written wide.
    """
    return min(max(ctx * _BODY_BYTES_PER_TOKEN, _LEAST_BODY_BYTES), _MOST_BODY_BYTES)


def _graph_bytes(shape: ModelShape, size: ServeSize) -> int:
    """The compute buffer that llama.cpp reserves for one full step (llama-context.cpp,
    `sched_reserve`).

    The attention mask (cells x rows, f16 with flash attention, else f32) plus the
    largest set of values alive at once; without flash attention the scores of all
    heads, cells and rows are among them. Found by dry loads of 24 shapes: exact for
    feed-forward widths from 2.5 times the embedding on; below that, and with quantized
    KV, up to a quarter too much.
    """
    cells = padded_cells(size.sizes.kv_cells)
    rows = min(size.sizes.ubatch_rows, cells)
    in_feed_forward = 3 * shape.feed_forward + shape.experts_out + 4 * shape.embedding
    in_attention = 3 * shape.embedding + 2 * shape.attention + 2 * shape.max_kv_width
    if size.max_row_cells is None:
        mask, scores = 2 * rows * (cells + window_cells(shape, size.sizes)), 0
    else:
        rows = -(-rows // size.num_sequences) * size.num_sequences  # equal parts
        mask = 4 * (size.max_row_cells + rows * window_cells(shape, size.sizes))
        scores = shape.num_heads * size.max_row_cells
    # what a state is before the step, after it, and after its last tokens but some
    scans = size.num_sequences * (2 + size.sizes.rollback_states) * shape.state.scanned_values
    in_state = rows * shape.state.row_values + scans
    in_output = 2 * shape.embedding * rows + size.num_outputs * shape.num_vocab
    in_layers = max(rows * in_feed_forward, rows * in_attention + scores, in_state)
    # A token's embeddings for each layer are made first, and are there to the end.
    in_tables = rows * (3 * shape.per_layer + shape.embedding)
    alive = max(in_layers + rows * shape.per_layer, in_tables, in_output)
    return mask + 4 * alive + _POSITION_BYTES * rows


def _turning_bytes(shape: ModelShape, size: ServeSize) -> int:
    """Room to turn keys when cells are moved: of a layer's whole cache, quantized ones as
    f32, twice (llama-kv-cache.cpp, `build_rope_shift`). Others are turned where they are.
    """
    if not size.moves_cells or size.sizes.kv_type.startswith("f16"):
        return 0
    return 2 * 4 * padded_cells(size.sizes.kv_cells) * max(shape.num_kv_heads) * shape.key_length


def _scratch_bytes(shape: ModelShape, size: ServeSize) -> int:
    """Scratch of the CPU backend (ggml-cpu.c, `ggml_graph_plan`):
    its largest operation's.

    A matrix product converts its input to the weights' partner type (at most 2 bytes a
    value), and so the attention scores before they are multiplied with V; flash
    attention has tiles per thread.
    """
    widest = max(shape.feed_forward, shape.embedding, shape.attention)
    of_matrices = 2 * size.sizes.ubatch_rows * widest
    if size.max_row_cells is not None:
        return max(of_matrices, 2 * shape.num_heads * size.max_row_cells)
    if size.own_kernels:  # and ggml computes next to nothing
        return kernel_scratch_bytes(shape, size.sizes)
    tiles = _TILE * (2 * shape.key_length + 2 * shape.value_length + 2 * _TILE)
    return max(of_matrices, 4 * size.sizes.threads * tiles)

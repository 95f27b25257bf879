"""The scratch memory of a graph that our own kernels compute.

Knows no model file and no ggml; the formulas follow kernels/backend/plan.cpp
(`Plan::make`), kernels/backend/walk.cpp (`make_room`), kernels/attention (shape.h,
task.h, division.h, view.h) and kernels/matmul/activations.h (`Packed`), and change with them.
"""

from __future__ import annotations

from appliance.fit.plan.kv_cache import padded_cells
from appliance.fit.plan.shape import ModelShape
from appliance.protocol.context_sizes import ContextSizes

_PAGE = 4096
# Activations of a product: a byte a value, and of every 16 values the sum as an int32
# and of every 256 the scale, as Q6_K wants them; no quantized format takes more.
_PACKED_BYTES_PER_VALUE = 1 + 4 / 16 + 4 / 256
_TOTALS_BYTES, _MOST_TOTALS_ROWS = 128, 240  # of a product's rows, for each thread
# attention/shape.h and view.h: what a task has at most, and what is kept of a mask.
_MOST_ROWS, _MOST_QUERIES, _MOST_CLASSES, _MOST_SCORES = 32, 64, 32, 1 << 19
_PIECE_CELLS = 64
# attention/division.h: when threads share tasks' cells, and of how many heads at once.
_ENOUGH_TASKS, _ENOUGH_PARTS, _LEAST_CELLS_OF_PART = 2, 8, 128
_FEW_ROWS, _MANY_CELLS, _MOST_SHARED_SCORES = 4, 512, 1 << 22
_MOST_HEADS, _MOST_STRIP_QUERIES = 16, 128
_VIEW_BYTES, _PIECE_BYTES = 272, 24


def kernel_scratch_bytes(shape: ModelShape, sizes: ContextSizes) -> int:
    """What a context takes after its largest step, and one at the end of a full cache."""
    threads = max(sizes.threads, sizes.batch_threads)
    # Without a cache, as for embeddings, rows see each other.
    cells = padded_cells(sizes.kv_cells or sizes.ubatch_rows)
    rows = min(sizes.ubatch_rows, cells)
    widest = max(shape.feed_forward, 2 * shape.embedding, shape.attention)
    packed = int(rows * widest * _PACKED_BYTES_PER_VALUE)
    rotations = 4 * rows * shape.key_length
    # the fewer rows, the more threads share a tile: all of them keep its scores
    counts = {*_powers_of_two(rows), rows}
    attention = max(attention_bytes(shape, many, cells, threads) for many in counts)
    views = max(_view_bytes(shape, many, cells) for many in counts)
    totals = threads * _pages(_TOTALS_BYTES * min(rows, _MOST_TOTALS_ROWS))
    return _pages(rotations + views + max(packed, attention)) + totals


class _Tasks:
    """How attention is cut (attention/shape.h, `AttentionShape`)."""

    def __init__(self, shape: ModelShape, rows: int, cells: int) -> None:
        kv_heads = max(shape.num_kv_heads)
        group = shape.num_heads // kv_heads
        self.padded_cells = cells + 16 * (_MOST_CLASSES + 1)
        queries = max(1, min(_MOST_QUERIES, _MOST_SCORES // self.padded_cells))
        head_tiles = -(-group // queries)
        heads = -(-group // head_tiles)
        self.row_tiles = -(-rows // max(1, min(_MOST_ROWS, queries // heads)))
        self.rows = -(-rows // self.row_tiles)
        self.queries = self.rows * heads
        self.kv_heads = kv_heads
        self.count = kv_heads * head_tiles * self.row_tiles

    def count_scores(self) -> int:
        return self.count * self.queries * self.padded_cells


class _Division:
    """How threads share them out (attention/division.h, `Division`)."""

    def __init__(self, tasks: _Tasks, rows: int, cells: int, threads: int) -> None:
        is_few_rows = rows <= _FEW_ROWS and cells >= _MANY_CELLS
        has_few_rows = is_few_rows and tasks.count_scores() <= _MOST_SHARED_SCORES
        enough = _ENOUGH_TASKS * threads
        self.has_parts = has_few_rows or tasks.count < enough
        wanted = _ENOUGH_PARTS * threads if has_few_rows else -(-enough // tasks.count)
        parts = max(1, min(wanted, cells // _LEAST_CELLS_OF_PART)) if self.has_parts else 1
        self.heads = 1
        if has_few_rows:
            most = max(1, min(_MOST_HEADS, _MOST_STRIP_QUERIES // tasks.queries))
            self.heads = min(most, max(1, tasks.count * parts // enough), tasks.kv_heads)
        self.founds = min(parts, threads)


def attention_bytes(shape: ModelShape, rows: int, cells: int, threads: int) -> int:
    """Scratch of one node: `attention_scratch_bytes` in kernels/attention/attention.cpp."""
    if not max(shape.num_kv_heads):
        return 0
    tasks = _Tasks(shape, rows, cells)
    part = (
        2 * _lines(4 * tasks.queries)
        + _lines(8 * tasks.queries)
        + 4 * (1 + tasks.rows + tasks.queries) * _vectors(shape.value_length)
    )
    scores = _lines(4 * tasks.queries * tasks.padded_cells)
    longest = max(shape.key_length, shape.value_length)
    queries = _lines(4 * tasks.queries * _vectors(longest))
    division = _Division(tasks, rows, cells, threads)
    if not division.has_parts:
        return threads * (queries + scores + part)
    return threads * division.heads * queries + tasks.count * (scores + division.founds * part)


def _view_bytes(shape: ModelShape, rows: int, cells: int) -> int:
    """What is kept of a mask while a graph is computed."""
    if not max(shape.num_kv_heads):
        return 0
    tasks = _Tasks(shape, rows, cells)
    pieces = cells // _PIECE_CELLS + _MOST_CLASSES + 2
    words = (cells // _PIECE_CELLS + 1) * tasks.rows
    one = _VIEW_BYTES + _PIECE_BYTES * pieces + 4 * (cells + 1) + 8 * words
    return tasks.row_tiles * _lines(one)


def _vectors(num_floats: int) -> int:
    return -(-num_floats // 16) * 16


def _lines(num_bytes: int) -> int:
    return -(-num_bytes // 64) * 64


def _powers_of_two(most: int) -> list[int]:
    return [1 << bit for bit in range(most.bit_length())]


def _pages(num_bytes: int) -> int:
    return -(-num_bytes // _PAGE) * _PAGE

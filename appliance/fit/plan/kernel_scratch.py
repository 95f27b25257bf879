"""The scratch memory of a graph that our own kernels compute.

Knows no model file and no ggml; the formulas follow kernels/backend/plan.cpp
(`Plan::make`), kernels/backend/walk.cpp (`make_room`), kernels/attention/attention.cpp
(`Layout`) and kernels/matmul/activations.h (`Packed`), and change with them.
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
# attention/tile.h, visible.h, passes.h: rows and queries of a tile, and a thread's own
# room for keys, values and queries.
_TILE_QUERIES, _MOST_TILE_ROWS, _MOST_SEGMENTS = 32, 16, 24
_WORKSPACE_BYTES = 260 * 1024
_CELL_BYTES = 6  # of the list of cells that a tile sees
_MOST_SCORES_BYTES, _MOST_SHARED_SCORES_BYTES = 1 << 20, 4 << 20


def kernel_scratch_bytes(shape: ModelShape, sizes: ContextSizes) -> int:
    """What a context takes after its largest step, and one at the end of a full cache."""
    threads = max(sizes.threads, sizes.batch_threads)
    cells = padded_cells(sizes.kv_cells)
    rows = min(sizes.ubatch_rows, cells)
    widest = max(shape.feed_forward, 2 * shape.embedding, shape.attention)
    packed = int(rows * widest * _PACKED_BYTES_PER_VALUE)
    rotations = 4 * rows * shape.key_length
    # the fewer rows, the more threads share a tile: all of them keep its scores
    attention = max(
        _attention_bytes(shape, many, cells, threads) for many in {*_powers_of_two(rows), rows}
    )
    totals = threads * _pages(_TOTALS_BYTES * min(rows, _MOST_TOTALS_ROWS))
    return _pages(rotations + max(packed, attention)) + totals


def _attention_bytes(shape: ModelShape, rows: int, cells: int, threads: int) -> int:
    kv_heads = max(shape.num_kv_heads)
    if not kv_heads:
        return 0
    group = shape.num_heads // kv_heads
    slots = cells + 16 * (_MOST_SEGMENTS + 2)
    tile_rows = min(max(_TILE_QUERIES // group, 1), _MOST_TILE_ROWS)
    while tile_rows > 1 and 4 * tile_rows * group * slots > _MOST_SCORES_BYTES:
        tile_rows //= 2
    tile_rows = min(tile_rows, rows)
    scores = 4 * tile_rows * group * slots
    sums = 4 * tile_rows * group * shape.value_length
    jobs = -(-rows // tile_rows) * kv_heads
    own = _WORKSPACE_BYTES + _CELL_BYTES * (cells + 64)
    is_shared = threads > 1 and jobs < 4 * threads and jobs * scores <= _MOST_SHARED_SCORES_BYTES
    if is_shared:
        return jobs * scores + threads * (own + jobs * sums)
    return threads * (own + scores + sums)


def _powers_of_two(most: int) -> list[int]:
    return [1 << bit for bit in range(most.bit_length())]


def _pages(num_bytes: int) -> int:
    return -(-num_bytes // _PAGE) * _PAGE

"""What the KV cache takes, and which types cells may have.

Knows no other buffer and no machine.
"""

from __future__ import annotations

from appliance.fit.plan.shape import ModelShape
from appliance.protocol.context_sizes import ContextSizes
from appliance.store.ggml_types import TYPES_BY_NAME, GgmlType, row_bytes

CELL_PADDING = 256  # llama-context.cpp: n_ctx = GGML_PAD(n_ctx, 256)


def padded_cells(kv_cells: int) -> int:
    return -(-kv_cells // CELL_PADDING) * CELL_PADDING


def kv_cell_bytes(shape: ModelShape, kv_type: str) -> int:
    """Bytes of one token in the KV cache: a row of K and a row of V in every layer
    (llama-kv-cache.cpp).
    """
    return sum(_layer_cell_bytes(shape, kv_type))


def kv_layer_bytes(shape: ModelShape, sizes: ContextSizes) -> tuple[int, ...]:
    """Bytes of each layer's cache: of all cells, or of a window for each sequence, the
    scratch one too, and one step's rows (llama-kv-cache-iswa.cpp).
    """
    num_cells, in_windows = padded_cells(sizes.kv_cells), window_cells(shape, sizes)
    slides = shape.slides or (False,) * len(shape.num_kv_heads)
    return tuple(
        (in_windows if is_window else num_cells) * cell_bytes
        for cell_bytes, is_window in zip(
            _layer_cell_bytes(shape, sizes.kv_type), slides, strict=True
        )
    )


def window_cells(shape: ModelShape, sizes: ContextSizes) -> int:
    """Of a layer with a window; 0 where no layer has one."""
    if not shape.window:
        return 0
    wanted = padded_cells(shape.window * (sizes.slots + 1) + sizes.ubatch_rows)
    return min(padded_cells(sizes.kv_cells), wanted)


def _layer_cell_bytes(shape: ModelShape, kv_type: str) -> list[int]:
    k_type, v_type = _k_and_v(kv_type)
    return [
        row_bytes(k_type, heads * shape.key_length) + row_bytes(v_type, heads * shape.value_length)
        for heads in shape.num_kv_heads
    ]


def allows_kv_type(shape: ModelShape, kv_type: str) -> bool:
    """Whether heads are whole blocks of the type, which llama.cpp demands of a
    quantized KV cache.
    """
    k_type, v_type = _k_and_v(kv_type)
    return (
        shape.key_length % k_type.block_values == 0
        and shape.value_length % v_type.block_values == 0
    )


def _k_and_v(kv_type: str) -> tuple[GgmlType, GgmlType]:
    """`q8_0` is the type of both, `q8_0/q4_0` of K and of V."""
    k_name, _, v_name = kv_type.upper().partition("/")
    return TYPES_BY_NAME[k_name], TYPES_BY_NAME[v_name or k_name]

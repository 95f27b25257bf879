"""What the KV cache takes for each token, and which types its cells may have.

Knows no other buffer and no machine.
"""

from __future__ import annotations

from appliance.fit.plan.shape import ModelShape
from appliance.store.ggml_types import TYPES_BY_NAME, GgmlType, row_bytes

CELL_PADDING = 256  # llama-context.cpp: n_ctx = GGML_PAD(n_ctx, 256)


def padded_cells(kv_cells: int) -> int:
    return -(-kv_cells // CELL_PADDING) * CELL_PADDING


def kv_cell_bytes(shape: ModelShape, kv_type: str) -> int:
    """Bytes of one token in the KV cache: a row of K and a row of V in every layer
    (llama-kv-cache.cpp).
    """
    k_type, v_type = _k_and_v(kv_type)
    return sum(
        row_bytes(k_type, heads * shape.key_length) + row_bytes(v_type, heads * shape.value_length)
        for heads in shape.num_kv_heads
    )


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

"""What each kernel is tried on: a small graph by its name, for a number of rows.

Knows shapes and types, and neither times nor errors.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from appliance.llama.kernels import ggml
from appliance.llama.kernels.ggml import Backend, Graph, functions, quantized, type_number

NUM_ROWS = (1, 8, 64)

_F32, _F16, _I32 = 0, 1, 26  # enum ggml_type
_WIDTH, _OUTPUTS = 1024, 2048  # of a product: as of a small model
_DISTINCT_OUTPUTS = 32  # quantizing takes longer than computing: the rest are copies
_HEAD_SIZE, _HEADS, _KV_HEADS, _CELLS = 64, 8, 4, 512


def has_case(name: str) -> bool:
    operation, _, type_name = name.partition(" ")
    if operation == "rows":
        return not type_name
    return operation in ("matmul", "attention") and type_number(type_name) is not None


def make_case(name: str, num_rows: int, memory_of: Backend) -> Graph:
    """The graph that the kernel called `name` computes."""
    operation, _, type_name = name.partition(" ")
    random = np.random.default_rng(num_rows)
    graph = Graph()
    if operation == "rows":
        result = _rows(graph, random, num_rows)
    else:
        type_ = type_number(type_name)
        assert type_ is not None
        result = (_product if operation == "matmul" else _attention)(graph, random, num_rows, type_)
    graph.finish(result, memory_of)
    return graph


def _product(graph: Graph, random: np.random.Generator, num_rows: int, type_: int) -> ggml.Pointer:
    distinct = quantized(_normal(random, _DISTINCT_OUTPUTS, _WIDTH), type_)
    copies = _OUTPUTS // _DISTINCT_OUTPUTS
    weights = graph.tensor(type_, (_WIDTH, _OUTPUTS), distinct * copies)
    x = graph.tensor(_F32, (_WIDTH, num_rows), _normal(random, num_rows, _WIDTH).tobytes())
    product: ggml.Pointer = functions.mul_mat(graph.context, weights, x)
    return product


def _attention(
    graph: Graph, random: np.random.Generator, num_rows: int, type_: int
) -> ggml.Pointer:
    """The last rows of a text that fills the cells, each seeing those before it.

    Each head's first cell has huge values and a probability of nearly nothing: it must
    not spoil what is summed up beside it.
    """
    queries = _normal(random, _HEADS * num_rows, _HEAD_SIZE)
    keys, values = (_normal(random, _KV_HEADS * _CELLS, _HEAD_SIZE) for _ in range(2))
    # no larger than others are: ggml quantizes queries with q8_0 keys
    queries[:, 0] = 4
    keys[:, 0], keys[::_CELLS, 0], values[::_CELLS] = 0, -60, 50_000
    q = graph.tensor(_F32, (_HEAD_SIZE, num_rows, _HEADS), queries.tobytes())
    k, v = (
        graph.tensor(type_, (_HEAD_SIZE, _CELLS, _KV_HEADS), quantized(cells, type_))
        for cells in (keys, values)
    )
    last_seen = _CELLS - num_rows + np.arange(num_rows)[:, None]
    seen = np.where(np.arange(_CELLS)[None, :] <= last_seen, 0.0, -np.inf)
    mask = graph.tensor(_F16, (_CELLS, num_rows), seen.astype(np.float16).tobytes())
    return ggml.flash_attention(graph, q, k, v, mask, scale=_HEAD_SIZE**-0.5)


def _rows(graph: Graph, random: np.random.Generator, num_rows: int) -> ggml.Pointer:
    """What stands between products: a sum, a norm, a gate, rotated positions."""
    context, num_heads = graph.context, _WIDTH // _HEAD_SIZE
    shape = (_HEAD_SIZE, num_heads, num_rows)

    def values() -> ggml.Pointer:
        return graph.tensor(
            _F32, shape, _normal(random, num_rows * num_heads, _HEAD_SIZE).tobytes()
        )

    a, b = values(), values()
    weights = graph.tensor(_F32, (_HEAD_SIZE,), _normal(random, 1, _HEAD_SIZE).tobytes())
    positions = graph.tensor(_I32, (num_rows,), np.arange(num_rows, dtype=np.int32).tobytes())
    norm = functions.rms_norm(context, functions.add(context, a, b), 1e-5)
    gated = functions.swiglu_split(context, functions.mul(context, norm, weights), a)
    rotated: ggml.Pointer = functions.rope(context, gated, positions, _HEAD_SIZE, 0)
    return rotated


def _normal(random: np.random.Generator, rows: int, columns: int) -> npt.NDArray[np.float32]:
    return random.standard_normal((rows, columns), np.float32)

"""Attention alone: microseconds a node, ours beside ggml's, by rows, cells and KV type.

Run: python -m bench.attention [THREADS] [ROUNDS]

The nodes are those of a 0.35B model: 16 layers in one graph (so that cells come from
memory, not from a cache), 16 heads of size 64 on 4 KV heads, a cell's heads side by
side as llama.cpp lays them. The rows are the last cells and see those before them. Both
sides compute the same graph in turns, and the best of the rounds counts. Knows no
model and no server; whether results are right is tested elsewhere.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from appliance.llama.checks.kernel_library import find_kernels
from appliance.llama.kernels.ggml import (
    Backend,
    Graph,
    Pointer,
    backend_of,
    cpu_backend,
    flash_attention,
    functions,
    quantized,
    type_number,
)
from appliance.llama.kernels.loading import load

LAYERS, HEADS, KV_HEADS, HEAD_SIZE = 16, 16, 4, 64
ROWS, CELLS, KV_TYPES = (1, 2, 4, 8, 64), (256, 2048, 8192), ("f16", "q8_0")
_F32, _F16 = 0, 1  # enum ggml_type
_LIMIT_S = 2.0  # of one case, on both sides


@dataclass(frozen=True)
class Case:
    """What every layer computes."""

    rows: int
    cells: int
    kv_type: str


def make_graph(case: Case, memory_of: Backend) -> Graph:
    """All layers, whose results are added up: a graph has one result."""
    random = np.random.default_rng(case.rows)
    graph, kind = Graph(), type_number(case.kv_type)
    assert kind is not None
    last_seen = case.cells - case.rows + np.arange(case.rows)[:, None]
    seen = np.where(np.arange(case.cells)[None, :] <= last_seen, 0.0, -np.inf)
    mask = graph.tensor(_F16, (case.cells, case.rows), seen.astype(np.float16).tobytes())
    shape = (HEAD_SIZE, case.rows, HEADS)
    total: Pointer = 0
    for _ in range(LAYERS):
        q = graph.tensor(_F32, shape, _normal(random, HEADS * case.rows).tobytes())
        k, v = (_cache(graph, random, case.cells, kind) for _ in range(2))
        node = flash_attention(graph, q, k, v, mask, scale=HEAD_SIZE**-0.5)
        total = functions.add(graph.context, total, node) if total else node
    graph.finish(total, memory_of)
    return graph


def _cache(graph: Graph, random: np.random.Generator, cells: int, kind: int) -> Pointer:
    """[head size, cells, KV heads], but in memory a cell's heads lie side by side."""
    data = quantized(_normal(random, cells * KV_HEADS), kind)
    laid = graph.tensor(kind, (HEAD_SIZE, KV_HEADS, cells), data)
    permuted: Pointer = functions.permute(graph.context, laid, 0, 2, 1, 3)
    return permuted


def _normal(random: np.random.Generator, rows: int) -> npt.NDArray[np.float32]:
    return random.standard_normal((rows, HEAD_SIZE), np.float32)


def measure(case: Case, sides: tuple[Backend, ...], rounds: int) -> list[float]:
    """Microseconds that a node takes on each side."""
    graph = make_graph(case, sides[-1])
    best = [float("inf")] * len(sides)
    started_s = time.perf_counter()
    try:
        for at in range(rounds + 1):  # the first one warms up
            for side, backend in enumerate(sides):
                begun_s = time.perf_counter()
                graph.compute(backend)
                taken_s = time.perf_counter() - begun_s
                best[side] = min(best[side], taken_s) if at else best[side]
            if at and time.perf_counter() - started_s > _LIMIT_S:
                break
    finally:
        graph.close()
    return [seconds * 1e6 / LAYERS for seconds in best]


def main(threads: int, rounds: int) -> None:
    library = find_kernels()
    if isinstance(library, str):
        sys.exit(f"Our own kernels {library}.")
    kernels = load(str(library.path))
    sides = (backend_of(kernels.backend, threads), cpu_backend(threads))
    print(f"{kernels.variant}, version {kernels.version}, {threads} threads; µs a node\n")
    print("| KV type | cells | rows | ours | ggml | times as fast |\n|---|---|---|---|---|---|")
    for kv_type in KV_TYPES:
        for cells in CELLS:
            for rows in ROWS:
                ours, ggmls = measure(Case(rows, cells, kv_type), sides, rounds)
                print(
                    f"| {kv_type} | {cells:,} | {rows} "
                    f"| {ours:,.0f} | {ggmls:,.0f} | {ggmls / ours:.1f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main(*([int(word) for word in sys.argv[1:]] + [2, 12][len(sys.argv) - 1 :]))

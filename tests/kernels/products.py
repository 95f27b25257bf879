"""A child of the tests: products by our kernels and by ggml beside exact ones, as JSON.

    python -m tests.kernels.products LIBRARY

Each is a line: its name, how far (root of mean squares, as a share of the exact result's)
ours and ggml's are from the exact product, and whether rows are the same bits in any
company and with any number of threads.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict

import msgspec
import numpy as np
import numpy.typing as npt
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

from appliance.llama.kernels import loading
from appliance.llama.kernels.ggml import (
    Backend,
    Graph,
    Pointer,
    backend_of,
    cpu_backend,
    functions,
    quantized,
)
from tests.kernels.found import TYPES, Found

Floats = npt.NDArray[np.float32]
F32, I32 = 0, 26  # enum ggml_type
OUTPUTS = 50  # no multiple of what is computed together


def main(path: str) -> None:
    registry = loading.load(path).backend
    teams = [backend_of(registry, threads) for threads in (1, 2, 3)]
    theirs = cpu_backend(2)
    for name in TYPES:
        for found in compare(GGMLQuantizationType[name], teams, theirs):
            print(msgspec.json.encode(asdict(found)).decode(), flush=True)


def compare(type_: GGMLQuantizationType, teams: list[Backend], theirs: Backend) -> Iterator[Found]:
    random = np.random.default_rng(int(type_))
    block_values = GGML_QUANT_SIZES[type_][0]
    for width in (768, 256) if block_values == 256 else (576, 96, 32):
        weights = random.standard_normal((4 * OUTPUTS, width), np.float32)
        data = quantized(weights, int(type_))
        rows = len(data) // len(weights)
        exact_weights = dequantize(
            np.frombuffer(data, np.uint8).reshape(len(weights), rows), type_
        ).astype(np.float64)
        x = random.standard_normal((21, width), np.float32)
        plain = x.astype(np.float64) @ exact_weights[:OUTPUTS].T
        yield examine(
            f"{type_.name} {width}",
            lambda rows, backend, data=data, x=x: product(int(type_), data, x[rows], backend),
            plain,
            teams,
            theirs,
        )
        choices = random.integers(0, 4, (21, 2)).astype(np.int32)
        by_expert = np.stack(
            [
                x.astype(np.float64) @ exact_weights[e * OUTPUTS : (e + 1) * OUTPUTS].T
                for e in range(4)
            ]
        )
        chosen = np.stack([by_expert[choices[:, i], np.arange(21)] for i in range(2)], axis=1)
        yield examine(
            f"{type_.name} {width} of experts",
            lambda rows, backend, data=data, x=x, choices=choices: experts(
                int(type_), data, x[rows], choices[rows], backend
            ),
            chosen,
            teams,
            theirs,
        )


def examine(
    name: str,
    compute: Callable[[slice, Backend], Floats],
    exact: npt.NDArray[np.float64],
    teams: list[Backend],
    theirs: Backend,
) -> Found:
    everything = slice(0, len(exact))
    ours = compute(everything, teams[1])
    same = all(
        np.array_equal(compute(part, teams[i % 3]), ours[part])
        for i, part in enumerate(
            slice(first, last)
            for first, last in ((0, 1), (0, 2), (3, 8), (5, 11), (0, 16), (20, 21))
        )
    )
    return Found(name, distance(ours, exact), distance(compute(everything, theirs), exact), same)


def distance(found: Floats, exact: npt.NDArray[np.float64]) -> float:
    return float(np.sqrt(((found - exact) ** 2).mean() / (exact**2).mean()))


def product(type_: int, data: bytes, x: Floats, backend: Backend) -> Floats:
    graph = Graph()
    part = data[: len(data) // 4]
    weights = graph.tensor(type_, (x.shape[1], OUTPUTS), part)
    activations = graph.tensor(F32, (x.shape[1], len(x)), x.tobytes())
    return computed(graph, functions.mul_mat(graph.context, weights, activations), backend).reshape(
        len(x), OUTPUTS
    )


def experts(
    type_: int, data: bytes, x: Floats, choices: npt.NDArray[np.int32], backend: Backend
) -> Floats:
    graph = Graph()
    weights = graph.tensor(type_, (x.shape[1], OUTPUTS, 4), data)
    activations = graph.tensor(F32, (x.shape[1], 1, len(x)), x.tobytes())
    ids = graph.tensor(I32, (choices.shape[1], len(x)), choices.tobytes())
    return computed(
        graph, functions.mul_mat_id(graph.context, weights, activations, ids), backend
    ).reshape(len(x), choices.shape[1], OUTPUTS)


def computed(graph: Graph, result: Pointer, backend: Backend) -> Floats:
    graph.finish(result, backend)
    graph.compute(backend)
    found = graph.result()
    graph.close()
    return found


if __name__ == "__main__":
    main(sys.argv[1])

"""Runs in a child process and may die there: compares each kernel of ours with
llama.cpp's, in what it computes and how long it takes.

Knows not what to conclude: see `appliance.llama.checks.kernel_test`.

Usage: python -m appliance.llama.kernels.self_test LIBRARY THREADS [NAME...], the names
of kernels that are known already.
Prints a `KernelLine` as JSON per line.
"""

from __future__ import annotations

import sys
import time

import msgspec
import numpy as np
import numpy.typing as npt

from appliance.llama.checks.kernel_test import (
    KernelBegun,
    KernelCompared,
    KernelLine,
    KernelResult,
    KernelsDone,
    KernelStart,
)
from appliance.llama.kernels.cases import NUM_ROWS, has_case, make_case
from appliance.llama.kernels.ggml import Backend, Graph, backend_of, cpu_backend
from appliance.llama.kernels.loading import KernelsRefused, load

_TIMED_S = 0.015  # of one case on both sides, once it has the least number of pairs
_LEAST_PAIRS, _MAX_PAIRS = 3, 12
# A kernel that seems to lose a little is tried again: something else may have run beside
# it. One that loses by far does, and would take long.
_MAX_TRIES, _BY_FAR = 3, 0.5
_TINY = 1e-30


def main(argv: list[str]) -> int:
    try:
        kernels = load(argv[0])
    except KernelsRefused as refusal:
        print(refusal, file=sys.stderr)  # noqa: T201 - a program's own error output
        return 1
    threads = int(argv[1])
    untested = tuple(name for name in kernels.names if not has_case(name))
    _say(KernelStart(kernels.version, kernels.variant, kernels.names, untested))
    ours, ggmls = backend_of(kernels.backend, threads), cpu_backend(threads)
    for name in kernels.names:
        if name not in untested and name not in argv[2:]:
            _say(KernelBegun(name))
            _say(KernelCompared(_best_of_tries(name, ours, ggmls)))
    _say(KernelsDone())
    return 0


def _best_of_tries(name: str, ours: Backend, ggmls: Backend) -> KernelResult:
    best = _compare(name, ours, ggmls)
    for _ in range(1, _MAX_TRIES):
        if not best.is_right or not best.flaw or best.speedup < _BY_FAR:
            break
        best = max(best, _compare(name, ours, ggmls), key=lambda result: result.speedup)
    return best


def _compare(name: str, ours: Backend, ggmls: Backend) -> KernelResult:
    errors: list[float] = []
    speedups: dict[int, float] = {}
    for num_rows in NUM_ROWS:
        graph = make_case(name, num_rows, ggmls)
        try:
            errors.append(_error(graph, ours, ggmls))
            speedups[num_rows] = _speedup(graph, ours, ggmls)
        finally:
            graph.close()
    # NaN is the largest of all errors
    return KernelResult(
        name=name,
        error=float(np.max(errors)) if np.isfinite(errors).all() else 1e30,
        speedups=speedups,
    )


def _error(graph: Graph, ours: Backend, ggmls: Backend) -> float:
    """Our result is looked for where ggml's was: one that was never written is not
    taken for it.
    """
    graph.compute(ours)
    found = graph.result()
    graph.compute(ggmls)
    reference = graph.result().astype(np.float64)
    return _squares(found - reference) / max(_squares(reference), _TINY)


def _squares(values: npt.NDArray[np.float64]) -> float:
    return float(np.square(values).sum())


def _speedup(graph: Graph, ours: Backend, ggmls: Backend) -> float:
    """The best of each side, in turns: what disturbs one disturbs the other."""
    our_s, their_s = [], []
    started_s = time.perf_counter()
    for at in range(1, _MAX_PAIRS + 1):
        our_s.append(_seconds(graph, ours))
        their_s.append(_seconds(graph, ggmls))
        is_lost = min(their_s) < _BY_FAR * min(our_s)
        if at >= (2 if is_lost else _LEAST_PAIRS) and time.perf_counter() - started_s > _TIMED_S:
            break
    return min(their_s) / min(our_s)


def _seconds(graph: Graph, backend: Backend) -> float:
    started_s = time.perf_counter()
    graph.compute(backend)
    return time.perf_counter() - started_s


def _say(line: KernelLine) -> None:
    """At once: what comes after may be the end of the process."""
    print(msgspec.json.encode(line).decode(), flush=True)  # noqa: T201 - the answer to the parent


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

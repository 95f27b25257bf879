"""Runs in a child process: the worker as it is, with a stopwatch around its real work:
decoding, and choosing tokens.

Knows neither requests nor what the times mean.

Usage: python -m bench.timed_worker FD OUT.msgpack
FD is what `appliance.worker.child` is given. OUT gets every `NativeCall`, in order,
when the worker has stopped.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

DECODE = "llama_decode"
CHOOSE = "Sampling.choose"  # all slots' tokens of one step: by llama.cpp's samplers and by NumPy


class NativeCall(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """One call.

    `started_s` and `ended_s` are of the clock that all processes share, `cpu_*` of the
    calling thread's.

    `num_rows` is a decode's batch size, 0 for choosing tokens.
    """

    name: str
    num_rows: int
    started_s: float
    ended_s: float
    cpu_started_s: float
    cpu_ended_s: float

    @property
    def elapsed_s(self) -> float:
        return self.ended_s - self.started_s


# a `NativeCall` before it is encoded: cheaper to make
RawCall = tuple[str, int, float, float, float, float]


def timed(name: str, function: Callable[..., Any], calls: list[RawCall]) -> Callable[..., Any]:
    """`function`, with every call added to `calls`.

    Its own cost falls outside the times: it counts against us.
    """

    def call(handle: Any, argument: Any, *rest: Any) -> Any:
        cpu_started_s, started_s = time.thread_time(), time.perf_counter()
        result = function(handle, argument, *rest)
        ended_s, cpu_ended_s = time.perf_counter(), time.thread_time()
        num_rows = argument.n_tokens if name == DECODE else 0
        calls.append((name, num_rows, started_s, ended_s, cpu_started_s, cpu_ended_s))
        return result

    return call


def main(argv: list[str]) -> int:
    # Not at the top: the process that reads our records imports them from here, and
    # stays free of native code.
    import llama_cpp

    from appliance.llama.sampling.choosing import Sampling
    from appliance.worker.child import __main__ as worker

    calls: list[RawCall] = []
    llama_cpp.llama_decode = timed(DECODE, llama_cpp.llama_decode, calls)
    Sampling.choose = timed(CHOOSE, Sampling.choose, calls)  # type: ignore[method-assign] # it is to be timed as it is
    status = worker.main(argv[:1])
    Path(argv[1]).write_bytes(msgspec.msgpack.encode(calls))
    return status


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(status)  # as the worker itself ends: not through llama.cpp's destructors

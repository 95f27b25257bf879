"""The only importer of llama_cpp here.

Importing this package loads nothing native: only its modules do.

It sets what llama.cpp and OpenMP read from the environment when their libraries are
loaded, so that every child has it.
"""

import os

# An abort would attach gdb for a backtrace, and hang on a terminal.
os.environ.setdefault("GGML_NO_BACKTRACE", "1")
# OpenMP's threads wait for each other by spinning, at hundreds of places in a step.
# Where something else runs for a moment, and be it our own parent sending a token, the
# kernel moves one of them beside the other, and both wait for a time slice. Bound to a
# core each, they are only delayed (docs/performance.md).
os.environ.setdefault("OMP_PROC_BIND", "close")
os.environ.setdefault("OMP_PLACES", "cores")
# NumPy's BLAS, of which we use nothing, would start threads when it is imported: before the
# process is confined, which they then would not be.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

_CPUS = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None


def use_all_cpus() -> None:
    """For a thread that computes none of llama.cpp's steps: it would inherit the one
    core that the main one has.
    """
    if _CPUS is not None:
        os.sched_setaffinity(0, _CPUS)

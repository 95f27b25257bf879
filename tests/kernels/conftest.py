"""Attention, compiled once for each instruction set that this machine has."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.kernels.attention import ROOT, Kernels, build_module, compiled

FOLDER = ROOT / "build" / "tests-kernels"  # what is current there is not compiled again
NEEDED = {"avx512": {"avx512_vnni", "avx512bw"}, "avx2": {"avx2", "fma"}, "baseline": {"sse4_2"}}

# A thread that waits for others must not keep them from their core.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


@cache
def runnable_variants() -> tuple[str, ...]:
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return ()
    has = set(Path("/proc/cpuinfo").read_text().split())
    return tuple(name for name, flags in NEEDED.items() if flags <= has)


@cache
def _attention(variant: str) -> Kernels:
    FOLDER.mkdir(parents=True, exist_ok=True)
    return compiled(variant, FOLDER)


@pytest.fixture(scope="session")
def attention_of() -> Callable[[str], Kernels]:
    """The kernels of a variant, by its name."""
    build = build_module()
    try:
        build.find_compiler()
    except build.NotBuilt as error:
        pytest.skip(str(error))

    def get(variant: str) -> Kernels:
        if variant not in runnable_variants():
            pytest.skip(f"this machine does not run {variant}")
        return _attention(variant)

    return get


@pytest.fixture(scope="session")
def attention(attention_of: Callable[[str], Kernels]) -> Kernels:
    """Those of the best instruction set."""
    variants = runnable_variants()
    if not variants:
        pytest.skip("needs Linux on x86-64")
    return attention_of(variants[0])

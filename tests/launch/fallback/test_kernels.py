"""What happens to our kernels when workers die: given up, taken back, or left alone."""

from __future__ import annotations

import signal
from pathlib import Path

import msgspec
import pytest

from appliance.launch.fallback.kernels import KernelFallback
from appliance.llama.checks import KernelLibrary, KernelMemory, KernelTest
from appliance.protocol.context_sizes import ContextSizes
from appliance.protocol.kernel_use import NO_KERNELS, KernelUse
from appliance.worker.crash import Crash, Remedy
from tests.worker_configs import plain_config

LIBRARY = KernelLibrary(Path("kernels.so"), "abc")
TEST = KernelTest(version="v1", variant="avx2", untested=("rows",))
WITHOUT = plain_config(
    model_path="m.gguf",
    sizes=ContextSizes(
        slots=1,
        kv_cells=64,
        kv_type="f16",
        threads=1,
        max_rows=64,
        batch_threads=1,
        ubatch_rows=64,
    ),
    ctx=64,
)
WITH = msgspec.structs.replace(WITHOUT, kernels=KernelUse("kernels.so", "abc", ("rows",)))
LOADING, AT_WORK = Crash(-signal.SIGSEGV, False), Crash(-signal.SIGILL, True)


@pytest.fixture
def memory(tmp_path: Path) -> KernelMemory:
    memory = KernelMemory(tmp_path / "kernels.json")
    memory.remember(LIBRARY, TEST)
    return memory


def otherwise(_crash: Crash) -> Remedy:
    """Plans anew, as if nothing had been the kernels' fault."""
    return Remedy("another path", WITH)


@pytest.mark.parametrize(
    ("crash", "reason"),
    [
        (LOADING, "a worker was killed by SIGSEGV while loading a model"),
        (AT_WORK, "a worker was killed by SIGILL at work"),
    ],
)
def test_they_are_given_up_first_and_that_is_remembered(
    memory: KernelMemory, crash: Crash, reason: str
) -> None:
    remedy = KernelFallback(WITH, memory, otherwise)(crash)
    assert remedy is not None
    assert remedy.config == WITHOUT
    known = memory.recall(LIBRARY)
    assert known is not None
    assert (known.failure, known.usable()) == (reason, ())


def test_a_model_that_dies_without_them_too_is_not_their_fault(memory: KernelMemory) -> None:
    fallback = KernelFallback(WITH, memory, otherwise)
    fallback(LOADING)
    remedy = fallback(LOADING)
    assert remedy is not None
    assert remedy.reason == "another path"
    assert remedy.config is not None
    assert remedy.config.kernels == NO_KERNELS, "not by this worker"
    assert memory.recall(LIBRARY) == TEST


def test_one_that_loads_without_them_shows_that_it_was(memory: KernelMemory) -> None:
    fallback = KernelFallback(WITH, memory, otherwise)
    fallback(LOADING)
    fallback(Crash(-signal.SIGKILL, True))
    fallback(LOADING)
    known = memory.recall(LIBRARY)
    assert known is not None
    assert known.failure


@pytest.mark.parametrize(
    "crash",
    [Crash(-signal.SIGSEGV, True), Crash(-signal.SIGKILL, False), Crash(1, False, "no such file")],
)
def test_other_deaths_are_not_theirs(memory: KernelMemory, crash: Crash) -> None:
    """A request at work may kill native code that is not ours."""
    assert KernelFallback(WITH, memory, otherwise)(crash) == otherwise(crash)
    assert memory.recall(LIBRARY) == TEST


def test_a_server_whose_workers_keep_dying_goes_on_without_them(memory: KernelMemory) -> None:
    """A kernel may fail on what no test of it has; or a request, or llama.cpp itself."""
    fallback = KernelFallback(WITH, memory, otherwise)
    died = Crash(-signal.SIGSEGV, True)
    assert [fallback(died) for _ in range(2)] == [otherwise(died)] * 2
    remedy = fallback(died)
    assert remedy is not None
    assert remedy.config == WITHOUT
    assert memory.recall(LIBRARY) == TEST, "it may not have been their fault"


def test_workers_without_any_are_somebody_elses(memory: KernelMemory) -> None:
    remedy = KernelFallback(WITHOUT, memory, lambda _crash: None)(LOADING)
    assert remedy is None
    assert memory.recall(LIBRARY) == TEST

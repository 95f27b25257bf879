"""What happens to the CPU paths when workers die:
demoted, taken back, or left alone.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from appliance.errors import LoadFailed, NothingFits
from appliance.launch.fallback.cpu_path import PathFallback
from appliance.llama.checks import CpuPath, CpuPaths, PathMemory, PathResult
from appliance.protocol.context_sizes import ContextSizes
from appliance.worker.config import WorkerConfig
from appliance.worker.crash import Crash
from appliance.worker.supervisor import Supervisor
from tests.worker_configs import plain_config

WORKS = PathResult(True, "works")
BOTH = CpuPaths(WORKS, WORKS)
PLAIN, EXTRA = CpuPath.PLAIN, CpuPath.EXTRA_BUFTS


def config_on(path: CpuPath) -> WorkerConfig:
    return plain_config(
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
        use_extra_bufts=path is EXTRA,
    )


@pytest.fixture
def memory(tmp_path: Path) -> PathMemory:
    memory = PathMemory(tmp_path / "cpu_paths.json")
    memory.remember(BOTH)
    return memory


def crash(number: signal.Signals, *, was_ready: bool = False) -> Crash:
    return Crash(-number, was_ready)


def remembered(memory: PathMemory) -> CpuPaths:
    paths = memory.recall()
    assert paths is not None
    return paths


@pytest.mark.parametrize(
    ("died", "reason"),
    [
        (crash(signal.SIGILL), "a worker was killed by SIGILL while loading a model"),
        (crash(signal.SIGILL, was_ready=True), "a worker was killed by SIGILL at work"),
        (crash(signal.SIGSEGV), "a worker was killed by SIGSEGV while loading a model"),
        (crash(signal.SIGABRT), "a worker was killed by SIGABRT while loading a model"),
        (crash(signal.SIGBUS), "a worker was killed by SIGBUS while loading a model"),
    ],
)
def test_a_path_that_workers_die_of_is_given_up_for_the_other(
    memory: PathMemory, died: Crash, reason: str
) -> None:
    remedy = PathFallback(EXTRA, BOTH, memory, config_on)(died)
    assert remedy is not None
    assert remedy.config == config_on(PLAIN)
    assert (
        remedy.reason == "the CPU path extra buffer types is given up, going on with plain weights"
    )
    demotion = remembered(memory).extra_bufts.demotion
    assert demotion is not None
    assert demotion.reason == reason
    assert remembered(memory).choose().path is PLAIN


@pytest.mark.parametrize(
    "died",
    [
        crash(signal.SIGKILL),  # the out-of-memory killer, or a person
        crash(signal.SIGSEGV, was_ready=True),
        crash(signal.SIGABRT, was_ready=True),
        Crash(1, was_ready=False),
    ],
)
def test_other_deaths_are_not_the_paths_fault(memory: PathMemory, died: Crash) -> None:
    assert PathFallback(PLAIN, BOTH, memory, config_on)(died) is None
    assert remembered(memory) == BOTH


def test_a_path_is_kept_where_the_other_is_unusable_or_does_not_fit(memory: PathMemory) -> None:
    def nothing_fits(_path: CpuPath) -> WorkerConfig:
        raise NothingFits("Nothing fits.")

    remedy = PathFallback(PLAIN, BOTH, memory, nothing_fits)(crash(signal.SIGILL))
    assert remedy is not None
    assert (remedy.config, remedy.reason) == (
        None,
        "the other CPU path, extra buffer types, cannot be used: Nothing fits.",
    )
    assert remembered(memory) == BOTH
    alone = CpuPaths(WORKS, PathResult(False, "died of SIGILL on m.gguf"))
    memory.remember(alone)
    remedy = PathFallback(PLAIN, alone, memory, config_on)(crash(signal.SIGILL))
    assert remedy is not None
    assert remedy.config is None
    assert "no other CPU path is usable" in remedy.reason
    assert remembered(memory) == alone


def test_a_model_that_kills_both_paths_costs_neither_of_them(memory: PathMemory) -> None:
    fallback = PathFallback(PLAIN, BOTH, memory, config_on)
    fallback(crash(signal.SIGABRT))
    remedy = fallback(crash(signal.SIGABRT))
    assert remedy is not None
    assert remedy.config is None
    assert "no CPU path is given up" in remedy.reason
    assert remembered(memory) == BOTH


def test_a_path_that_had_worked_is_taken_again_when_the_other_cannot_even_load(
    memory: PathMemory,
) -> None:
    fallback = PathFallback(EXTRA, BOTH, memory, config_on)
    fallback(crash(signal.SIGILL, was_ready=True))
    remedy = fallback(crash(signal.SIGSEGV))
    assert remedy is not None
    assert remedy.config == config_on(EXTRA)
    assert remembered(memory) == BOTH


def test_a_path_that_had_loaded_after_the_other_is_not_given_up_for_it(memory: PathMemory) -> None:
    fallback = PathFallback(EXTRA, BOTH, memory, config_on)
    fallback(crash(signal.SIGILL))
    assert fallback(crash(signal.SIGKILL, was_ready=True)) is None
    remedy = fallback(crash(signal.SIGILL))
    assert remedy is not None
    assert remedy.config is None
    assert remembered(memory).choose().path is PLAIN


@pytest.mark.parametrize(
    ("deaths", "served_by", "chosen_next"),
    [("extra:load:SIGILL", "plain", PLAIN), ("extra:load:SIGABRT,plain:load:SIGABRT", None, None)],
)
async def test_the_supervisor_goes_on_with_the_path_that_lives(
    memory: PathMemory, deaths: str, served_by: str | None, chosen_next: CpuPath | None
) -> None:
    command = [sys.executable, "-m", "tests.worker.scripted_worker", deaths]
    fallback = PathFallback(EXTRA, BOTH, memory, config_on)
    supervisor = Supervisor(config_on(EXTRA), on_crash=fallback, command=command)
    if served_by is None:
        with pytest.raises(
            LoadFailed, match="killed by SIGABRT; plain weights and extra buffer types both died"
        ):
            await supervisor.start()
        assert remembered(memory) == BOTH
    else:
        await supervisor.start()
        assert supervisor.info is not None
        assert supervisor.info.name == served_by
        assert remembered(memory).choose().path is chosen_next
    await supervisor.stop()

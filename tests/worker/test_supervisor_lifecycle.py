"""How workers fail, are replaced and end:
crashes, hangs, refused models, remedies, stops.

Knows nothing of their answers: those are tested in `test_supervisor`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import msgspec
import psutil
import pytest

from appliance.errors import LoadFailed, ModelNotReady, RequestAtFault, ShuttingDown, WorkerLost
from appliance.protocol.events import Delta, Event, Started
from appliance.protocol.health import WorkerState
from appliance.protocol.sampling import SamplingParams
from appliance.worker.config import WorkerConfig
from appliance.worker.crash import Crash, Remedy
from appliance.worker.patience import Patience
from appliance.worker.supervisor import Supervisor
from tests.worker.running import PATIENCE, ask, config, running, text, worker_pid

__all__ = ["config"]  # a fixture


async def has_begun(events: AsyncGenerator[Event, None]) -> None:
    """Reads up to the first token: from now on the request is not tried again."""
    assert isinstance(await anext(events), Started)
    assert isinstance(await anext(events), Delta)


# --- with a real worker ---------------------------------------------------------------


async def test_a_killed_worker_costs_the_requests_in_flight_an_error_and_the_next_one_nothing(
    config: WorkerConfig,
) -> None:
    async with running(config) as supervisor:
        async with aclosing(supervisor.generate(text("It was", max_tokens=400))) as events:
            await has_begun(events)
            os.kill(worker_pid(supervisor), signal.SIGKILL)
            with pytest.raises(WorkerLost, match="killed by SIGKILL"):
                async for _ in events:
                    pass
        answer = await ask(supervisor, text("It was", max_tokens=4))
        health = supervisor.health()
    assert answer.finished.usage.num_completion_tokens == 4
    assert (health.state, health.num_restarts, health.last_error) == (
        WorkerState.READY,
        1,
        "killed by SIGKILL",
    )


async def test_a_worker_that_hangs_is_killed_and_replaced(config: WorkerConfig) -> None:
    async with running(config, Patience(silence_s=3.0)) as supervisor:
        async with aclosing(supervisor.generate(text("It was", max_tokens=400))) as events:
            await has_begun(events)
            os.kill(worker_pid(supervisor), signal.SIGSTOP)
            with pytest.raises(WorkerLost, match="silent"):
                async for _ in events:
                    pass
        await ask(supervisor, text("It was", max_tokens=4))


async def test_a_file_that_is_no_model_is_a_load_error(
    config: WorkerConfig, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    supervisor = Supervisor(msgspec.structs.replace(config, model_path=str(broken)), PATIENCE)
    with pytest.raises(LoadFailed, match=r"broken\.gguf"):
        await supervisor.start()
    assert supervisor.health().state is WorkerState.FAILED
    with pytest.raises(ModelNotReady):
        await ask(supervisor, text("x"))
    await supervisor.stop()


async def test_a_signal_without_a_name_is_survived_too(config: WorkerConfig) -> None:
    async with running(config) as supervisor:
        async with aclosing(supervisor.generate(text("It was", max_tokens=400))) as events:
            await has_begun(events)
            os.kill(worker_pid(supervisor), 40)  # a real-time signal
            with pytest.raises(WorkerLost, match="killed by signal 40"):
                async for _ in events:
                    pass
        await ask(supervisor, text("It was", max_tokens=4))
        health = supervisor.health()
    assert (health.state, health.last_error) == (WorkerState.READY, "killed by signal 40")


async def test_stopping_ends_streams_and_leaves_no_process(config: WorkerConfig) -> None:
    async with running(config) as supervisor:
        pid = worker_pid(supervisor)
        async with aclosing(supervisor.generate(text("It was", max_tokens=400))) as events:
            await anext(events)
            await supervisor.stop()
            with pytest.raises(ShuttingDown):
                async for _ in events:
                    pass
        assert not psutil.pid_exists(pid)
        with pytest.raises(ShuttingDown):
            await ask(supervisor, text("x"))


# --- crashes and their remedies, with a worker that dies as scripted ------------------


def scripted(
    config: WorkerConfig, deaths: str, remedies: list[Remedy | None]
) -> tuple[Supervisor, list[Crash]]:
    """A supervisor whose crashes are answered with `remedies` in turn, and the crashes
    it will have asked about.
    """
    crashes: list[Crash] = []

    def on_crash(crash: Crash) -> Remedy | None:
        crashes.append(crash)
        return remedies[len(crashes) - 1]

    command = [sys.executable, "-m", "tests.worker.scripted_worker", deaths]
    return Supervisor(config, PATIENCE, on_crash, command), crashes


async def test_a_first_load_that_dies_is_tried_again_with_the_remedys_config(
    config: WorkerConfig,
) -> None:
    other = msgspec.structs.replace(config, use_extra_bufts=True)
    supervisor, crashes = scripted(
        config, "plain:load:SIGILL", [Remedy("plain is given up", other)]
    )
    await supervisor.start()
    health, info = supervisor.health(), supervisor.info
    await supervisor.stop()
    assert crashes == [Crash(-signal.SIGILL, was_ready=False)]
    assert info is not None
    assert info.name == "extra"
    assert (health.state, health.num_restarts) == (WorkerState.READY, 1)
    assert health.last_error == "killed by SIGILL; plain is given up"


@pytest.mark.parametrize(
    ("remedy", "reason"),
    [(None, "killed by SIGABRT"), (Remedy("both died"), "killed by SIGABRT; both died")],
)
async def test_a_first_load_that_dies_without_another_config_fails_and_says_why(
    config: WorkerConfig, remedy: Remedy | None, reason: str
) -> None:
    supervisor, crashes = scripted(config, "plain:load:SIGABRT", [remedy])
    with pytest.raises(LoadFailed) as failed:
        await supervisor.start()
    await supervisor.stop()
    assert (failed.value.message, len(crashes)) == (reason, 1)


async def test_a_worker_that_dies_at_work_comes_back_with_the_remedys_config(
    config: WorkerConfig,
) -> None:
    other = msgspec.structs.replace(config, use_extra_bufts=True)
    supervisor, crashes = scripted(
        config, "plain:request:SIGILL", [Remedy("plain is given up", other)]
    )
    await supervisor.start()
    # it is given to the next worker too, which never answers
    waiting = asyncio.create_task(anext(supervisor.generate(text("x"))))
    while not (crashes and supervisor.health().state is WorkerState.READY):
        await asyncio.sleep(0)
    info, last_error = supervisor.info, supervisor.health().last_error
    await supervisor.stop()
    with pytest.raises(WorkerLost):
        await waiting
    assert crashes == [Crash(-signal.SIGILL, was_ready=True)]
    assert info is not None
    assert (info.name, last_error) == ("extra", "killed by SIGILL; plain is given up")


async def test_a_request_that_kills_delays_nobody_and_is_refused_the_third_time(
    config: WorkerConfig,
) -> None:
    command = [sys.executable, "-m", "tests.worker.scripted_worker", "plain:request:SIGSEGV"]
    patience = Patience(stop_s=20.0, first_backoff_s=3600.0, longest_backoff_s=3600.0)
    supervisor = Supervisor(config, patience, command=command)
    await supervisor.start()
    deadly = text("x", SamplingParams(seed=1))
    with pytest.raises(WorkerLost, match="killed by SIGSEGV"):
        await ask(supervisor, deadly)  # it is tried twice
    again = msgspec.structs.replace(deadly, sampling=SamplingParams(seed=2))
    with pytest.raises(RequestAtFault, match="in progress 2 times when the model's worker"):
        await ask(supervisor, again)
    health = supervisor.health()
    with pytest.raises(WorkerLost):
        await ask(supervisor, text("y"))
    await supervisor.stop()
    assert (health.state, health.num_restarts) == (WorkerState.READY, 2)


async def test_whoever_ends_a_worker_blames_no_request(config: WorkerConfig) -> None:
    command = [sys.executable, "-m", "tests.worker.scripted_worker", "plain:request:SIGKILL"]
    supervisor = Supervisor(config, PATIENCE, command=command)
    await supervisor.start()
    for _ in range(3):
        with pytest.raises(WorkerLost, match="killed by SIGKILL"):
            await ask(supervisor, text("x"))
    await supervisor.stop()


async def test_a_stop_does_not_wait_for_a_load(config: WorkerConfig) -> None:
    # a load without end
    command = [sys.executable, "-m", "tests.worker.scripted_worker", "plain:load:SIGSTOP"]
    supervisor = Supervisor(config, Patience(stop_s=3600.0), command=command)
    starting = asyncio.create_task(supervisor.start())
    while supervisor.health().pid is None:
        await asyncio.sleep(0)
    pid = worker_pid(supervisor)
    await asyncio.wait_for(supervisor.stop(), 60)
    assert not psutil.pid_exists(pid)
    with pytest.raises(LoadFailed):
        await starting


async def test_the_end_of_supervision_is_reported_to_whoever_waits_for_it(
    config: WorkerConfig,
) -> None:
    def on_crash(_crash: Crash) -> Remedy | None:
        raise ValueError("no remedy is known")

    command = [sys.executable, "-m", "tests.worker.scripted_worker", "plain:request:SIGILL"]
    supervisor = Supervisor(config, PATIENCE, on_crash, command)
    await supervisor.start()
    failing = asyncio.create_task(supervisor.failed())
    with pytest.raises(WorkerLost, match="killed by SIGILL"):
        await ask(supervisor, text("x"))  # nobody is there to try it again
    with pytest.raises(
        WorkerLost, match="no longer served: the supervisor failed: no remedy is known"
    ):
        await asyncio.wait_for(failing, 60)
    await supervisor.stop()


def test_a_child_tied_to_its_parent_dies_with_it() -> None:
    """Also where it reads nothing: here it only sleeps."""
    child = (
        "from appliance.lifeline import die_with_parent; die_with_parent(); "
        "print(1, flush=True); input()"
    )
    parent = f"""
import sys
from subprocess import PIPE, Popen
child = Popen([sys.executable, "-c", {child!r}], stdin=PIPE, stdout=PIPE)
child.stdout.readline()
print(child.pid, flush=True)
sys.stdin.readline()
"""
    command = [sys.executable, "-c", parent]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        grandchild = psutil.Process(int(process.stdout.readline()))
        os.kill(grandchild.pid, signal.SIGSTOP)  # it could not even notice the end of its input
        process.kill()
        gone, _ = psutil.wait_procs([grandchild], timeout=30)
    assert gone


async def test_a_worker_that_refuses_its_model_says_why_to_who_may_know_a_remedy(
    config: WorkerConfig, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    crashes: list[Crash] = []
    config = msgspec.structs.replace(config, model_path=str(broken))
    supervisor = Supervisor(config, PATIENCE, crashes.append)  # append's None is no remedy
    with pytest.raises(LoadFailed, match=r"broken\.gguf"):
        await supervisor.start()
    await supervisor.stop()
    (crash,) = crashes
    assert not crash.was_ready
    assert "broken.gguf" in (crash.load_error or "")

"""What the watch makes of snapshots of the memory: bounds for workers, refusals,
unloading, warnings, counts.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import AsyncIterator

import pytest

from appliance.fit.machine.psi import Pressure
from appliance.fit.plan.budget import Budget
from appliance.fit.plan.footprint import BUSY_CODE_BYTES
from appliance.gateway.memory_snapshot import MemorySnapshot, take_snapshot
from appliance.gateway.pressure_watch import MAX_PROMPT_TOKENS, PressureWatch
from appliance.gateway.router import Router, ServedModel
from appliance.gateway.telemetry.metrics import Metrics
from appliance.protocol.events import Event
from appliance.protocol.health import Heartbeat, WorkerHealth, WorkerState
from appliance.protocol.model_info import ModelInfo
from appliance.protocol.relief import NO_RELIEF, Pace, Relief
from appliance.protocol.requests import GenerateRequest
from appliance.worker.memory_use import MemoryUse
from tests.gateway.samples import values

MIB = 1 << 20
BUDGET = Budget(1000 * MIB, 100 * MIB, "a test")  # pressed below 50 MiB, calm from 75 MiB on
WORDS = "of the budget of 1000.0 MiB"


class Holder:
    """A worker that holds saved prefixes and does as it is told."""

    def __init__(self, pid: int, prefix_mib: int) -> None:
        self.info: ModelInfo | None = None
        self.relief = NO_RELIEF
        self._pid = pid
        self._held_bytes = prefix_mib * MIB

    def relieve(self, relief: Relief | Pace) -> None:
        assert isinstance(relief, Relief)
        self.relief = relief

    def health(self) -> WorkerHealth:
        beat = Heartbeat(
            num_running=1,
            num_waiting=0,
            num_steps=7,
            num_used_cells=40,
            step_age_s=0.5,
            prefix_host_bytes=self._held_bytes,
        )
        return WorkerHealth(
            state=WorkerState.READY,
            pid=self._pid,
            num_restarts=0,
            last_error=None,
            heartbeat=beat,
            heartbeat_age_s=0.25,
        )

    async def generate(
        self, request: GenerateRequest, on_computed: object = None
    ) -> AsyncIterator[Event]:
        raise NotImplementedError
        yield


class Machine:
    """Two models, and the memory as the test sets it; `pass_s` makes one check after so
    many seconds.
    """

    def __init__(self, *, num_idle: int | None = None) -> None:
        self.workers = {"novels": Holder(11, 60), "verse": Holder(12, 20)}
        self.left_mib = 500
        self.anonymous_mib = 100
        self.num_idle = num_idle
        self.now_s = 0.0
        self.failure: OSError | None = None  # of taking a snapshot
        self.metrics = Metrics()
        self.metrics.watch(list)
        models = [
            ServedModel(id=name, client=worker, created=0) for name, worker in self.workers.items()
        ]
        self.watch = PressureWatch(
            Router(models),
            BUDGET,
            self.metrics,
            unload_idle=None if num_idle is None else self.unload_idle,
            predicted_bytes={"novels": 120 * MIB}.get,
            take_snapshot=self.take_snapshot,
            clock=lambda: self.now_s,
        )

    def take_snapshot(self, pids: list[int], budget_bytes: int) -> MemorySnapshot:
        if self.failure is not None:
            raise self.failure
        use = MemoryUse(self.anonymous_mib * MIB, 10 * MIB)
        return MemorySnapshot(
            server=MemoryUse(30 * MIB, 20 * MIB),
            workers=dict.fromkeys(pids, use),
            available_bytes=4000 * MIB,
            left_bytes={"of this machine's memory": 4000 * MIB, WORDS: self.left_mib * MIB},
            stalls=Pressure(25.0, 0.5, "a test"),
        )

    async def unload_idle(self) -> bool:
        assert self.num_idle is not None
        self.num_idle -= 1
        return self.num_idle >= 0

    async def pass_s(self, seconds: float) -> list[Relief]:
        self.now_s += seconds
        await self.watch.check()
        return [worker.relief for worker in self.workers.values()]

    def counted(self, name: str) -> dict[str, float]:
        return values(self.metrics, f"appliance_memory_pressure_{name}")


async def test_pressure_rises_step_by_step_and_falls_again() -> None:
    machine = Machine()
    assert await machine.pass_s(1) == [NO_RELIEF, NO_RELIEF]
    machine.left_mib = 35  # 40 MiB to calm, of 80 held: each gives half
    reason = f"35.0 MiB left {WORDS}"
    assert await machine.pass_s(1) == [
        Relief(30 * MIB, None, reason),
        Relief(10 * MIB, None, reason),
    ]
    assert await machine.pass_s(3) == [Relief(0, MAX_PROMPT_TOKENS, reason)] * 2
    assert await machine.pass_s(3) == [Relief(0, MAX_PROMPT_TOKENS, reason)] * 2, (
        "there is nothing to unload"
    )
    machine.left_mib = 80
    await machine.pass_s(1)
    assert await machine.pass_s(15) == [Relief(0, None, f"80.0 MiB left {WORDS}")] * 2
    assert await machine.pass_s(15) == [NO_RELIEF, NO_RELIEF]
    assert machine.counted("steps_total") == {
        "up,fewer_prefixes": 1,
        "up,short_prompts": 1,
        "down,short_prompts": 1,
        "down,fewer_prefixes": 1,
    }
    assert machine.counted("level") == {"": 0}


async def test_a_worker_that_comes_while_memory_is_short_is_told_too() -> None:
    machine = Machine()
    machine.left_mib = 35
    await machine.pass_s(1)
    machine.workers["verse"].relief = NO_RELIEF  # as a new process has it
    assert (await machine.pass_s(1))[1].max_host_bytes == 10 * MIB


async def test_idle_models_are_unloaded_one_at_a_time_for_as_long_as_memory_is_short() -> None:
    machine = Machine(num_idle=2)
    machine.left_mib = 10
    for _ in range(3):
        await machine.pass_s(3)
    assert machine.num_idle == 1
    await machine.pass_s(1)
    assert machine.num_idle == 1, "the effect of the first is awaited"
    for _ in range(3):
        await machine.pass_s(3)
    assert machine.counted("unloads_total") == {"": 2}
    assert machine.counted("steps_total") == {
        "up,fewer_prefixes": 1,
        "up,short_prompts": 1,
        "up,fewer_models": 1,
    }


async def test_each_step_is_logged_once_with_its_numbers(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    machine = Machine()
    machine.left_mib = 35
    for _ in range(10):
        await machine.pass_s(1)
    rises = f"memory pressure rises to level {{}}: 35.0 MiB left {WORDS}; now "
    assert caplog.messages == [
        rises.format(1) + "saved prefixes may take 40.0 MiB of host memory (they took 80.0 MiB)",
        rises.format(2) + f"no prefix is saved, and prompts of more than {MAX_PROMPT_TOKENS} new "
        "tokens are refused",
    ]


async def test_memory_that_cannot_be_measured_is_told_once_until_it_can(
    caplog: pytest.LogCaptureFixture,
) -> None:
    machine = Machine()
    machine.left_mib = 35
    told = await machine.pass_s(1)
    caplog.clear()
    for _ in range(2):
        machine.failure = OSError(errno.EMFILE, "Too many open files", "/proc/11/stat")
        for _ in range(3):
            assert await machine.pass_s(1) == told
        machine.failure = None
        machine.left_mib = 60  # between the marks, where nothing changes
        told = await machine.pass_s(1)
    said = "memory cannot be measured now, so what is held stays: Too many open files"
    assert caplog.messages == [said, said]


async def test_a_worker_that_outgrows_its_prediction_and_the_headroom_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    machine = Machine()
    for machine.anonymous_mib in (220, 221, 300):
        await machine.pass_s(1)
    assert caplog.messages == [
        "novels: worker 11 uses 221.0 MiB of anonymous memory, but 120.0 MiB were predicted, with "
        "100.0 MiB of headroom; please report this"
    ]
    assert values(machine.metrics, "appliance_worker_unforeseen_growth_total") == {"novels": 1}


async def test_what_was_found_is_in_the_metrics() -> None:
    machine = Machine()
    await machine.pass_s(1)
    assert values(machine.metrics, "appliance_process_memory_bytes") == {
        "anonymous,,server": 30 * MIB,
        "file,,server": 20 * MIB,
        "anonymous,novels,worker": 100 * MIB,
        "file,novels,worker": 10 * MIB,
        "anonymous,verse,worker": 100 * MIB,
        "file,verse,worker": 10 * MIB,
    }
    assert values(machine.metrics, "appliance_memory_budget_bytes") == {"": 1000 * MIB}
    assert values(machine.metrics, "appliance_memory_available_bytes") == {"": 4000 * MIB}
    assert values(machine.metrics, "appliance_memory_left_bytes") == {"": 500 * MIB}
    assert values(machine.metrics, "appliance_memory_stall_ratio") == {"some": 0.25, "full": 0.005}


def test_a_snapshot_of_this_process_finds_its_memory_and_every_bound() -> None:
    before = take_snapshot([], 1 << 40)
    block = bytearray(64 * MIB)
    found = take_snapshot([4_000_000], 1 << 40)
    assert found.workers == {}, "no process has this id"
    assert abs(found.server.anonymous_bytes - before.server.anonymous_bytes - len(block)) < 4 * MIB
    assert found.server.file_bytes > MIB
    held_bytes = found.server.anonymous_bytes + BUSY_CODE_BYTES
    assert found.left_bytes["of the budget of 1024.00 GiB"] == (1 << 40) - held_bytes
    assert found.sample().left_bytes == min(found.left_bytes.values())
    assert found.left_bytes["of this machine's memory"] == found.available_bytes - BUSY_CODE_BYTES

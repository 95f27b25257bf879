"""A worker that may not start a thread, or have memory, names the limit, once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from appliance.errors import LoadFailed
from appliance.protocol.health import WorkerState
from appliance.worker.child import thread_limits
from appliance.worker.config import WorkerConfig
from appliance.worker.supervisor import Supervisor
from tests.worker.running import PATIENCE, config

__all__ = ["config"]  # a fixture

THREAD_TOO_LARGE = """
import resource
from appliance.errors import LoadFailed
from appliance.worker.child.vital import start_vital
pages = int(open("/proc/self/statm").read().split()[0])
most = pages * resource.getpagesize() + (64 << 20)
resource.setrlimit(resource.RLIMIT_AS, (most, most))
try:
    start_vital("one", print, stack_bytes=512 << 20)
except LoadFailed as error:
    print(error.message)
"""


def test_a_thread_beyond_the_address_space_names_the_limit() -> None:
    told = subprocess.run(
        [sys.executable, "-c", THREAD_TOO_LARGE], check=True, capture_output=True, text=True
    ).stdout
    assert told.startswith("A thread cannot be started. The limit on address space (ulimit -v, ")
    assert "A thread needs 512 MiB for its stack" in told
    assert "ulimit -v unlimited" in told


@pytest.mark.parametrize("limit_kib", [700_000, 250_000])
async def test_a_worker_that_cannot_load_for_a_limit_is_not_started_again(
    config: WorkerConfig, limit_kib: int
) -> None:
    shell = f'ulimit -v {limit_kib}; exec "$0" -m appliance.worker.child "$@"'
    supervisor = Supervisor(config, PATIENCE, command=["bash", "-c", shell, sys.executable])
    with pytest.raises(LoadFailed) as failed:
        await supervisor.start()
    await supervisor.stop()
    health = supervisor.health()
    assert f"LimitAS= of systemd) is {limit_kib >> 10} MiB" in failed.value.message
    assert failed.value.message.count("ulimit -v unlimited") == 1
    assert (health.state, health.num_restarts) == (WorkerState.FAILED, 0)


def test_a_control_groups_limit_is_named_where_it_is_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = tmp_path / "groups" / "pids" / "system" / "appliance"
    service.mkdir(parents=True)
    membership = tmp_path / "cgroup"
    membership.write_text("8:pids:/system/appliance\n1:name=systemd:/\n")
    monkeypatch.setattr(thread_limits, "_CGROUP", membership)
    monkeypatch.setattr(thread_limits, "_GROUPS", tmp_path / "groups")
    (service / "pids.max").write_text("max\n")
    (service / "pids.current").write_text("14\n")
    (service.parent / "pids.max").write_text("20\n")
    (service.parent / "pids.current").write_text("14\n")
    assert "control group" not in thread_limits.why_no_thread(0)
    (service.parent / "pids.max").write_text("14\n")
    told = thread_limits.why_no_thread(0)
    assert f"({service.parent}/pids.max, TasksMax= of systemd" in told
    assert "is 14, and 14 are running" in told

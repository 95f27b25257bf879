"""A server in a control group whose memory runs out: it gives up what it can, answers
on, and is never killed.
"""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.serve.server import AWAIT_S, Server, environment, free_port

MIB = 1 << 20
LIMIT_BYTES = 512 * MIB  # 32 MiB are headroom: memory is short with less than half of it left
MEMORY_V1 = Path("/sys/fs/cgroup/memory")
IN_GROUP = ("sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"')
# Takes as many MiB as each line of its input says, until the input ends.
HOG = """
import sys
taken = []
for line in sys.stdin:
    taken.append(bytes([1]) * (int(line) << 20))
    print("taken", flush=True)
"""


@pytest.fixture
def group() -> Iterator[Path]:
    """A memory control group with a limit, below that of this process."""
    cgroups = Path("/proc/self/cgroup")
    lines = cgroups.read_text().splitlines() if cgroups.exists() else []
    own = next((line.split(":", 2)[2] for line in lines if line.split(":", 2)[1] == "memory"), None)
    if own is None or not MEMORY_V1.is_dir():
        pytest.skip(
            "needs the memory controller of control groups, version 1, which is not mounted here"
        )
    above = MEMORY_V1 / own.lstrip("/")
    made = (above if above.is_dir() else MEMORY_V1) / f"appliance-test-{uuid.uuid4().hex[:8]}"
    try:
        made.mkdir()
    except OSError as error:
        pytest.skip(
            f"needs leave to make control groups, which is not given here: {error.strerror}"
        )
    (made / "memory.limit_in_bytes").write_text(str(LIMIT_BYTES))
    yield made
    # what was killed is on its way out
    await_until(lambda: not (made / "cgroup.procs").read_text())
    made.rmdir()


def await_until(is_so: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + AWAIT_S
    while not is_so():
        assert time.monotonic() < deadline_s, "it did not come about"
        time.sleep(0.05)


def metric(server: Server, name: str) -> float:
    """The one sample of a metric."""
    text = httpx.get(f"{server.url}/metrics", timeout=10).text
    found = [
        s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
        if s.name == name
    ]
    assert len(found) == 1, f"{name}: {found}"
    return found[0]


def left_mib(group: Path) -> int:
    """What the group has left once its page cache is gone."""
    stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    cache_bytes = int(stat["total_active_file"]) + int(stat["total_inactive_file"])
    return (LIMIT_BYTES - int((group / "memory.usage_in_bytes").read_text()) + cache_bytes) // MIB


def complete(server: Server, prompt: list[int]) -> httpx.Response:
    return httpx.post(
        f"{server.url}/v1/completions", json={"prompt": prompt, "max_tokens": 2}, timeout=60
    )


def long_prompt(number: int) -> list[int]:
    """Begins like no other one; 4.4 MiB of KV cache."""
    return [1 + (97 * at + 31 * number) % 4000 for at in range(1500)]


class Hog:
    """Another program in the group."""

    def __init__(self, group: Path) -> None:
        self._process = subprocess.Popen(
            [*IN_GROUP, str(group), sys.executable, "-c", HOG],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def take(self, mib: int) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(mib, file=self._process.stdin, flush=True)
        assert self._process.stdout.readline() == "taken\n"

    def end(self) -> None:
        self._process.communicate()


def test_short_prompts_are_answered_when_there_is_no_memory_left(
    home: Path, tmp_path: Path, group: Path
) -> None:
    port = free_port()
    flags = ["--port", str(port), "--slots", "2", "--kv-cells", "2048", "--kv-type", "f16"]
    too_generous = ["--prefix-host-bytes", "1GiB", "--resident-prefix-cells", "0"]
    command = [
        *IN_GROUP,
        str(group),
        sys.executable,
        "-m",
        "appliance",
        "serve",
        "novels-6m",
        *flags,
        *too_generous,
    ]
    server, hog = Server(command, port, environment(home), tmp_path), Hog(group)
    try:
        server.await_line(" ready: ")
        worker = server.worker()
        assert complete(server, long_prompt(0)).status_code == 200  # what a step needs is taken now
        most_held = 0.0
        for number in range(1, 60):
            hog.take(max(0, left_mib(group) - 45))  # also what was in use for a moment only
            assert complete(server, long_prompt(number)).status_code == 200
            if metric(server, "appliance_memory_pressure_level") > 0:
                break
            most_held = max(most_held, metric(server, "appliance_host_prefix_bytes"))
        assert most_held > 10 * MIB
        server.await_line("memory pressure rises to level 1")
        await_until(lambda: metric(server, "appliance_host_prefix_bytes") < most_held)

        hog.take(left_mib(group) - 15)
        server.await_line("memory pressure rises to level 2")
        # within a step, at the latest
        await_until(lambda: complete(server, long_prompt(100)).status_code == 503)
        refused = complete(server, long_prompt(100))
        error = refused.json()["error"]
        assert (error["code"], refused.headers["retry-after"]) == ("memory_pressure", "20")
        assert "under the 512.0 MiB limit" in error["message"]
        assert "at most 1024 tokens" in error["message"]
        for num_tokens in (1024, 100, 10):
            assert complete(server, long_prompt(200 + num_tokens)[:num_tokens]).status_code == 200
        await_until(lambda: metric(server, "appliance_host_prefix_bytes") == 0)
        assert "oom_kill 0" in (group / "memory.oom_control").read_text()
        assert server.worker() == worker
        assert metric(server, "appliance_worker_restarts_total") == 0
    finally:
        hog.end()
        server.end()

"""What the serving parent spends on a streamed token: worker's frame, mailbox, wire
chunk, SSE, uvicorn, the socket.

Its own processor time as the kernel counts it, with eight clients streaming from a
whole `appliance serve` on the random model of 0.35B parameters. Not held to a limit: on
a machine with a core to spare none of it delays a step.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

pytestmark = pytest.mark.timeout(1800)  # a machine that is not idle takes many times as long

NUM_STREAMS = 8
NUM_NEW_TOKENS = 48
ROUNDS = 3
_START_TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Round:
    elapsed_s: float
    parent_cpu_s: float


@pytest.fixture
def server(random_model: Path, tmp_path: Path) -> Iterator[tuple[str, psutil.Process]]:
    """The address and the parent process of a server that is ready."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    folders = ["--models-dir", str(tmp_path / "models"), "--state-dir", str(tmp_path / "state")]
    sizes = ["--slots", str(NUM_STREAMS), "--ctx", "1024", "--port", str(port)]
    command = [
        sys.executable,
        "-m",
        "appliance",
        "serve",
        str(random_model),
        "--no-tune",
        *sizes,
        *folders,
    ]
    process = subprocess.Popen(command)
    url = f"http://127.0.0.1:{port}"
    try:
        await_health(process, url)
        yield url, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def await_health(process: subprocess.Popen[bytes], url: str) -> None:
    """Raises `RuntimeError` if the server ends, or takes too long."""
    give_up_s = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < give_up_s and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):  # not listening yet
            if httpx.get(f"{url}/health").status_code == httpx.codes.OK:
                return
        time.sleep(0.2)
    raise RuntimeError(f"the server at {url} did not become ready")


def test_a_streamed_token(server: tuple[str, psutil.Process], benchmark: BenchmarkFixture) -> None:
    url, parent = server
    rounds: list[Round] = []

    def run() -> None:
        cpu_s, started_s = own_cpu_s(parent), time.perf_counter()
        asyncio.run(stream_all(url))
        rounds.append(Round(time.perf_counter() - started_s, own_cpu_s(parent) - cpu_s))

    benchmark.pedantic(  # type: ignore[no-untyped-call] # pytest-benchmark leaves this one method untyped
        run, rounds=ROUNDS, warmup_rounds=1
    )
    num_tokens = NUM_STREAMS * NUM_NEW_TOKENS
    measured = rounds[1:]
    report = {
        "parent_cpu_us_per_token": round(
            1e6 * statistics.median(r.parent_cpu_s for r in measured) / num_tokens
        ),
        "percent_of_one_core": round(
            100 * statistics.median(r.parent_cpu_s / r.elapsed_s for r in measured), 2
        ),
        "tokens_per_s": round(num_tokens / statistics.median(r.elapsed_s for r in measured), 1),
        "tokens": num_tokens * ROUNDS,
    }
    benchmark.extra_info.update(report)
    print("\n" + "  ".join(f"{name}={value}" for name, value in report.items()))


def own_cpu_s(process: psutil.Process) -> float:
    """Without its children's; counted in the kernel's ticks of 10 ms."""
    times = process.cpu_times()
    return float(times.user + times.system)


async def stream_all(url: str) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=None) as client:
        model = (await client.get("/v1/models")).json()["data"][0]["id"]
        await asyncio.gather(*(stream(client, model, number) for number in range(NUM_STREAMS)))


async def stream(client: httpx.AsyncClient, model: str, number: int) -> None:
    """Reads one answer to its end.

    Raises on a status that is an error, and on a stream that breaks off.
    """
    wanted = {
        "model": model,
        "prompt": f" stream {number}",
        "max_tokens": NUM_NEW_TOKENS,
        "ignore_eos": True,
    }
    last = ""
    async with client.stream("POST", "/v1/completions", json={**wanted, "stream": True}) as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            last = line or last
    if last != "data: [DONE]":
        raise RuntimeError(f"the stream ended with {last!r}")

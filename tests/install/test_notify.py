"""What a service manager hears on its socket.

Knows systemd's protocol from sd_notify(3), and starts no service.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.cli.service.notify import Notifier
from appliance.settings.service_manager import ServiceManager, service_manager


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A listening manager's socket and its address as NOTIFY_SOCKET has it."""
    path = str(tmp_path / "notify")
    is_abstract = request.param == "abstract"
    if is_abstract and not Path("/proc/net/unix").exists():
        pytest.skip("abstract sockets are Linux's")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0{path}" if is_abstract else path)
        listening.settimeout(10)
        yield listening, f"@{path}" if is_abstract else path


def read(listening: socket.socket) -> list[str]:
    return listening.recv(4096).decode().split("\n")


def test_the_manager_hears_ready_and_stopping(manager: tuple[socket.socket, str]) -> None:
    listening, address = manager
    notifier = Notifier(ServiceManager(notify_socket=address))
    notifier.ready("Serving m\nat http://127.0.0.1:8080/v1")
    assert read(listening) == ["READY=1", "STATUS=Serving m at http://127.0.0.1:8080/v1"]
    notifier.stopping(drain_s=120.5)
    assert read(listening) == [
        "STOPPING=1",
        "STATUS=Waiting for answers in progress",
        "EXTEND_TIMEOUT_USEC=135500000",
    ]


async def test_the_watchdog_hears_from_a_living_loop(manager: tuple[socket.socket, str]) -> None:
    listening, address = manager
    notifier = Notifier(ServiceManager(notify_socket=address, watchdog_s=0.002))
    alive = asyncio.create_task(notifier.keep_alive())
    heard = [await asyncio.to_thread(read, listening) for _ in range(3)]
    alive.cancel()
    assert heard == [["WATCHDOG=1"]] * 3


async def test_without_a_manager_nothing_happens() -> None:
    notifier = Notifier(ServiceManager())
    notifier.ready("up")
    notifier.stopping(30)
    await notifier.keep_alive()


def test_a_manager_out_of_reach_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        Notifier(ServiceManager(notify_socket=str(tmp_path / "gone"))).ready("up")
    assert "cannot send 'READY=1" in caplog.text


def test_what_the_environment_says() -> None:
    mine = {
        "NOTIFY_SOCKET": "/run/n",
        "WATCHDOG_USEC": "60000000",
        "WATCHDOG_PID": str(os.getpid()),
    }
    assert service_manager(mine) == ServiceManager("/run/n", 60.0)
    assert service_manager(mine | {"WATCHDOG_PID": "1"}) == ServiceManager("/run/n", None)
    assert service_manager(mine | {"WATCHDOG_USEC": "soon"}) == ServiceManager("/run/n", None)
    assert service_manager({"NOTIFY_SOCKET": ""}) == ServiceManager()

"""Where no descriptor is left for a connection, one line says so."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket

import pytest

from appliance.cli.network.scarcity import ScarcityHandler


async def test_scarcity_is_said_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    now_s = 0.0
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(ScarcityHandler(lambda: now_s))
    error = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    with socket.socket() as sock:
        context = {"message": "socket.accept()", "exception": error, "socket": sock}
        for now_s, num_said in ((0.0, 1), (59.0, 1), (60.0, 2)):  # noqa: B007  # the clock's
            for _ in range(2048):
                loop.call_exception_handler(context)
            assert len(caplog.records) == num_said
    assert caplog.messages[0].startswith("new connections wait: Too many open files. Raise")
    assert caplog.records[0].exc_info is None


async def test_all_else_is_said_as_ever(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(ScarcityHandler())
    with caplog.at_level(logging.ERROR):
        loop.call_exception_handler({"message": "a task failed", "exception": ValueError("x")})
    [record] = caplog.records
    assert (record.name, record.message) == ("asyncio", "a task failed")
    assert record.exc_info is not None

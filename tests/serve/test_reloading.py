"""SIGHUP to a real server: at any moment of its start, and while it serves."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.serve.server import Server, environment, free_port

_HANGUP_BIT = 1 << (signal.SIGHUP - 1)


def catches_hangups(pid: int) -> bool:
    """As the kernel has it; not before the interpreter runs."""
    status = Path(f"/proc/{pid}/status").read_text()
    [caught] = [line for line in status.splitlines() if line.startswith("SigCgt:")]
    return bool(int(caught.split()[1], 16) & _HANGUP_BIT)


@pytest.mark.skipif(sys.platform != "linux", reason="only /proc says whether it is caught")
def test_hangups_from_the_first_import_on_are_harmless_and_taken_up(
    home: Path, tmp_path: Path
) -> None:
    port = free_port()
    command = [sys.executable, "-m", "appliance", "serve", "--no-tune", "--port", str(port)]
    server = Server([*command, "novels-6m"], port, environment(home), tmp_path)
    try:
        pid = server.process.pid
        while not catches_hangups(pid):
            assert server.process.poll() is None
        assert server.lines == []
        while " ready: " not in server.log:
            os.kill(pid, signal.SIGHUP)
            server.await_more(len(server.lines))
        server.await_line("settings read anew; changed: no setting")
        assert server.health()["status"] == "ok"
        server.process.terminate()
        assert server.process.wait(60) == 0
    finally:
        server.end()

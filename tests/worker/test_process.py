"""What a worker process is started with."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from appliance.worker.process import WorkerProcess

PROGRAM = """
import os, sys
from pathlib import Path
import appliance.llama
Path(sys.argv[1]).write_text(os.environ["OMP_PROC_BIND"])
"""


@pytest.mark.parametrize(
    ("binds_threads", "wish", "found"),
    [
        (True, None, "close"),
        (False, None, "false"),
        (False, "close", "false"),
        (False, "spread", "spread"),
    ],
)
async def test_its_threads_are_bound_where_they_fill_the_machine(
    *,
    binds_threads: bool,
    wish: str | None,
    found: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OMP_PROC_BIND", raising=False)
    if wish is not None:
        monkeypatch.setenv("OMP_PROC_BIND", wish)
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "found")]
    process = await WorkerProcess.start(command, binds_threads=binds_threads)
    await process.reap(was_ready=False, limit_s=60)
    await process.close()
    assert (tmp_path / "found").read_text() == found

"""Runs a command with what is typed into it, and no terminal. Knows no command."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.serve.server import environment


@dataclass(frozen=True)
class Ended:
    exit_code: int
    out: str
    err: str


async def run_command(home: Path, *words: str, typed: str = "") -> Ended:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "appliance", *words),
        env=environment(home),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate(typed.encode(errors="surrogateescape"))
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())

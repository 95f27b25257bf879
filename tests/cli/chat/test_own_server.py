"""Commands that start a server for themselves, with a model that answers questions."""

from __future__ import annotations

from pathlib import Path

import psutil

from tests.cli.chat.commands import run_command
from tests.cli.chat.terminal import StartTerminal, Terminal
from tests.serve.server import free_port

SMALL = ("--ctx", "512", "--ram", "1GiB")


def servers_of(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def computes(process: psutil.Process) -> bool:
    """A zombie waits for the init process, which we do not wait for."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_one_answer(real_model: Path, tmp_path: Path) -> None:
    question = "What is the capital of Japan?"
    flags = ("--port", str(free_port()), "--temperature", "0", "--max-tokens", "20", *SMALL)
    ended = await run_command(tmp_path, "run", str(real_model), question, *flags)
    assert (ended.exit_code, ended.out) == (0, "The capital of Japan is Tokyo.\n")
    assert [*Path(tmp_path).rglob("own-server.log")] != []


async def begun_by(terminal: StartTerminal, model: Path) -> tuple[Terminal, list[psutil.Process]]:
    """A chat, and the server and the worker that are its own."""
    shown = terminal("chat", str(model), "--port", str(free_port()), *SMALL)
    await shown.sees("on a server of its own.")
    begun = servers_of(shown.process.pid)
    assert len(begun) >= 2
    return shown, begun


async def test_the_server_ends_with_a_closed_terminal(
    real_model: Path, terminal: StartTerminal
) -> None:
    shown, begun = await begun_by(terminal, real_model)
    shown.process.terminate()
    assert await shown.exit_code() == 128 + 15
    assert [process for process in begun if computes(process)] == []


async def test_the_server_ends_with_a_command_that_was_killed(
    real_model: Path, terminal: StartTerminal
) -> None:
    shown, begun = await begun_by(terminal, real_model)
    shown.process.kill()
    _, alive = psutil.wait_procs(begun, timeout=30)
    assert [process for process in alive if computes(process)] == []

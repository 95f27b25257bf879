"""`appliance` alone, `stop`, `logs` and `--debug`, beside servers and without."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from appliance.api.app import create_app
from appliance.cli import main
from tests.api.conftest import Serve
from tests.api.scripted_client import ScriptedClient, gateway_around
from tests.cli.chat.commands import run_command
from tests.cli.chat.terminal import CTRL_C, StartTerminal
from tests.serve.server import StartServer, free_port

STAND_IN = '#!/bin/sh\necho {name} "$@"\n'


def run(*argv: str, home: Path, **environ: str) -> int:
    return main(argv, {"HOME": str(home), **environ})


def test_alone_it_says_that_nothing_runs_and_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = str(free_port())
    assert run(home=tmp_path, APPLIANCE_PORT=port) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"No server runs on 127.0.0.1 port {port}."
    assert said[2] == "  appliance chat    talk with a model in the terminal"


async def test_alone_it_shows_what_runs(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = serve(create_app(gateway_around(ScriptedClient())))
    monkeypatch.setattr("tests.cli.chat.commands.environment", _on_port(tmp_path, url))
    ended = await run_command(tmp_path)
    said = ended.out.splitlines()
    assert (ended.exit_code, said[0]) == (
        0,
        f"A server runs on 127.0.0.1 port {url.rpartition(':')[2]}. For OpenAI's and Anthropic's "
        f"clients: {url}/v1; Ollama's: {url}",
    )
    assert [line.split()[0] for line in said[3:5]] == ["server", "novels"]
    assert "  appliance stop    end it in good order" in said


async def test_alone_beside_a_server_that_wants_a_key(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = serve(create_app(gateway_around(ScriptedClient(), ("s3cret",))))
    monkeypatch.setattr("tests.cli.chat.commands.environment", _on_port(tmp_path, url))
    ended = await run_command(tmp_path)
    assert ended.exit_code == 0
    assert "but tells nothing: The server requires an API key." in ended.out


def _on_port(home: Path, url: str) -> object:
    port = url.rpartition(":")[2]
    return lambda _home: {**os.environ, "HOME": str(home), "APPLIANCE_PORT": port}


async def test_top_watches_until_ctrl_c(serve: Serve, terminal: StartTerminal) -> None:
    url = serve(create_app(gateway_around(ScriptedClient())))
    shown = terminal("top", "--port", url.rpartition(":")[2])
    for _ in range(2):  # it is drawn again
        await shown.sees("Ctrl-C ends.")
        await shown.sees("novels")
    shown.type(CTRL_C)
    assert await shown.exit_code() == 0


async def test_top_is_for_terminals(tmp_path: Path) -> None:
    ended = await run_command(tmp_path, "top")
    assert (ended.exit_code, ended.out) == (2, "")
    assert ended.err.startswith("error: top needs a terminal.")


def test_stop_ends_the_server_in_good_order(
    start_server: StartServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = start_server("novels-6m", "--ctx", "512")
    port = server.url.rpartition(":")[2]
    assert run("stop", "--port", port, home=tmp_path) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"The server on 127.0.0.1 port {port} has ended."
    )
    assert server.process.wait(10) == 0
    assert "stopping: waiting for answers in progress (0)" in server.log


async def test_stop_ends_no_process_that_is_no_server(serve: Serve, tmp_path: Path) -> None:
    """This one answers as a server, and is the tests'."""
    url = serve(create_app(gateway_around(ScriptedClient())))
    ended = await run_command(tmp_path, "stop", "--port", url.rpartition(":")[2])
    assert (ended.exit_code, ended.out) == (1, "")
    assert ended.err.startswith(f"error: The server says that it is process {os.getpid()}, and")


async def test_the_log_of_the_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _install(tmp_path, "systemctl", "#!/bin/sh\necho loaded\n")
    _install(tmp_path, "journalctl", STAND_IN.format(name="journalctl"))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin", prepend=os.pathsep)
    ended = await run_command(tmp_path, "logs", "-n", "5", "-f")
    assert (ended.exit_code, ended.out) == (0, "journalctl --unit appliance -n 5 -f\n")


async def test_the_log_of_a_server_of_a_commands_own(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    flags = ("logs", "--own", "--state-dir", str(state), "--lines", "2")
    ended = await run_command(tmp_path, *flags)
    assert (ended.exit_code, ended.out) == (1, "")
    assert ended.err.startswith("error: There is no log:")
    (state / "own-server.log").write_text("one\ntwo\nthree\n")
    ended = await run_command(tmp_path, *flags)
    assert (ended.exit_code, ended.out) == (0, "two\nthree\n")


def _install(home: Path, name: str, text: str) -> None:
    (home / "bin").mkdir(exist_ok=True)
    program = home / "bin" / name
    program.write_text(text)
    program.chmod(0o755)


def test_an_error_is_one_line_and_with_debug_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*_: object, **__: object) -> int:
        raise LookupError("no such leaf")

    monkeypatch.setattr("appliance.cli.ps.run", break_down)
    assert run("ps", home=tmp_path) == 1
    assert capsys.readouterr().err == (
        "error: This should not happen: LookupError: no such leaf. --debug shows where.\n"
    )
    with pytest.raises(LookupError):
        run("ps", "--debug", home=tmp_path)
    with pytest.raises(LookupError):
        run("ps", home=tmp_path, APPLIANCE_DEBUG="1")


def test_debug_shows_where_a_known_error_comes_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--debug", "fit", "absent.gguf", home=tmp_path) == 2
    said = capsys.readouterr().err
    assert said.startswith("Traceback (most recent call last)")
    assert "\nerror: absent.gguf does not exist." in said

"""`appliance launch` beside a running server, with stand-ins for the agents."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.api.app import create_app
from appliance.protocol.events import AskResult
from tests.api.scripted_client import INFO, ScriptedClient, gateway_around
from tests.api.serving import Serve
from tests.serve.server import bare_environment, free_port

STAND_IN = f"""#!{sys.executable}
import json, os, sys
print(json.dumps({{"words": sys.argv[1:], "environment": dict(os.environ)}}))
"""


@dataclass(frozen=True)
class Ended:
    exit_code: int
    out: str
    err: str


Launch = Callable[..., Awaitable[Ended]]


@pytest.fixture
def launch(tmp_path: Path, serve: Serve) -> Launch:
    """Runs the command for a server whose model is `novels`, as `info` describes it."""

    async def run(*flags: str, keys: tuple[str, ...] = (), **info: Any) -> Ended:
        client = ScriptedClient()
        client.info = msgspec.structs.replace(INFO, **info)
        client.answer = AskResult(1, pieces=[b"", b"", b""])
        url = serve(create_app(gateway_around(client, keys)))
        return await _run(tmp_path, url.rpartition(":")[2], *flags)

    return run


async def _run(home: Path, port: str, *flags: str) -> Ended:
    (home / "bin").mkdir(exist_ok=True)
    around = {**bare_environment(home), "PATH": f"{home}/bin:/usr/bin:/bin"}
    at = flags.index("--") if "--" in flags else len(flags)
    command = [sys.executable, "-m", "appliance", "launch", *flags[:at], "--port", port]
    process = await asyncio.create_subprocess_exec(
        *command,
        *flags[at:],
        env=around,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


def install(home: Path, name: str) -> None:
    (home / "bin").mkdir(exist_ok=True)
    program = home / "bin" / name
    program.write_text(STAND_IN)
    program.chmod(0o755)


LONG = {"ctx": 65_536, "train_ctx": 131_072, "tool_use": "native"}


async def test_alone_it_lists_agents_and_asks_no_server(tmp_path: Path) -> None:
    install(tmp_path, "codex")
    ended = await _run(tmp_path, str(free_port()))
    assert ended.exit_code == 0
    rows = {line.split()[0]: line for line in ended.out.splitlines()}
    assert [*rows] == [
        "AGENT",
        "claude",
        "codex",
        "opencode",
        "aider",
        "continue",
        "open-webui",
        "home-assistant",
    ]
    assert (" yes " in rows["codex"], " no " in rows["claude"]) == (True, True)


async def test_an_agent_is_started_with_its_own_arguments(tmp_path: Path, launch: Launch) -> None:
    install(tmp_path, "claude")
    keys = tmp_path / "keys"
    keys.write_text("# mine\nsk-1\n")
    ended = await launch(
        "claude", "--api-key-file", str(keys), "--", "-p", "--", "hi", keys=("sk-1",), **LONG
    )
    assert (ended.exit_code, ended.err) == (0, "")
    found = json.loads(ended.out)
    flag, own, *words = found["words"]
    assert (flag, words) == ("--settings", ["-p", "--", "hi"])
    settings = json.loads(Path(own).read_text())
    assert settings["env"]["ANTHROPIC_MODEL"] == "novels"
    assert settings["env"]["CLAUDE_CODE_AUTO_COMPACT_WINDOW"] == "65536"
    assert settings["apiKeyHelper"] == f"grep -m1 '^[^#]' {keys}"
    assert not (tmp_path / ".claude").exists()


async def test_a_key_is_handed_on_in_the_environment(tmp_path: Path, launch: Launch) -> None:
    install(tmp_path, "opencode")
    keys = tmp_path / "keys"
    keys.write_text("# mine\nsk-1\n")
    without = await launch("opencode", keys=("sk-1",), **LONG)
    assert without.err.startswith("error: The server requires an API key.")
    ended = await launch("opencode", "--api-key-file", str(keys), keys=("sk-1",), **LONG)
    found = json.loads(ended.out)
    assert (found["words"], found["environment"]["LOCAL_LLM_KEY"]) == ([], "sk-1")


async def test_a_model_can_be_named_by_an_alias(tmp_path: Path, launch: Launch) -> None:
    ended = await launch("opencode", "--model", "org/novels", "--print", **LONG)
    assert "# opencode with novels at http://127.0.0.1:" in ended.out
    unknown = await launch("opencode", "--model", "nobody", "--print", **LONG)
    assert (unknown.exit_code, unknown.out) == (1, "")
    assert unknown.err.startswith("error: The model 'nobody' is not served here.")


async def test_what_does_not_suffice_is_started_only_when_told_to(
    tmp_path: Path, launch: Launch
) -> None:
    install(tmp_path, "aider")
    refused = await launch("aider")
    assert (refused.exit_code, refused.out) == (1, "")
    assert refused.err.splitlines() == [
        "Aider needs at least 8192 tokens of context, and novels is served with 2048.",
        "Made for this: unsloth/Qwen3-4B-Instruct-2507-GGUF or "
        "unsloth/Qwen3-Coder-30B-A3B-Instruct-GGUF, served with --ctx 32768 ('appliance fit NAME "
        "--ctx 32768' shows whether it fits this machine).",
        "error: Go on all the same? There is no terminal to ask on: give --yes.",
    ]
    assert not (tmp_path / ".local").exists()
    started = await launch("aider", "--yes")
    words = json.loads(started.out)["words"]
    assert words[:3] == ["--model", "openai/novels", "--model-metadata-file"]
    assert json.loads(Path(words[3]).read_text()).keys() == {"openai/novels"}


async def test_printing_starts_and_writes_nothing(tmp_path: Path, launch: Launch) -> None:
    install(tmp_path, "aider")
    before = {*tmp_path.rglob("*")}
    ended = await launch("aider", "--print", "--", "--message", "a b", **LONG)
    assert ended.exit_code == 0
    assert "export AIDER_OPENAI_API_KEY=none\naider --model openai/novels" in ended.out
    assert "--message 'a b'" in ended.out
    assert {*tmp_path.rglob("*")} == before


async def test_writing_asks_before_a_file_changes(tmp_path: Path, launch: Launch) -> None:
    settings = tmp_path / ".claude" / "settings.json"
    settings.parent.mkdir()
    settings.write_text('{"theme": "dark"}')
    refused = await launch("claude", "--write", **LONG)
    assert refused.exit_code == 1
    assert refused.err.endswith("There is no terminal to ask on: give --yes.\n")
    assert settings.read_text() == '{"theme": "dark"}'
    written = await launch("claude", "--write", "--yes", **LONG)
    assert written.exit_code == 0
    assert '-{"theme": "dark"}' in written.out.splitlines()
    assert json.loads(settings.read_text())["theme"] == "dark"
    kept = settings.with_name("settings.json.before-appliance")
    assert kept.read_text() == '{"theme": "dark"}'


@pytest.mark.parametrize(
    ("flags", "exit_code", "words"),
    [
        (("claude",), 1, "Claude Code is not installed. To install it: npm install -g"),
        (("nobody",), 2, "There is no agent 'nobody' here. There are: claude, codex,"),
        (("home-assistant", "--write"), 1, "Home Assistant has no file for this."),
        (("claude", "--print", "--write"), 2, "--print and --write exclude each other."),
    ],
)
async def test_what_cannot_be_done_is_said(
    launch: Launch, flags: tuple[str, ...], exit_code: int, words: str
) -> None:
    ended = await launch(*flags, **LONG)
    assert ended.exit_code == exit_code
    assert f"error: {words}" in ended.err


async def test_without_a_server_there_is_nothing_to_set_up(tmp_path: Path) -> None:
    port = str(free_port())
    ended = await _run(tmp_path, port, "claude")
    assert ended.exit_code == 1
    assert f"error: No appliance server answers on 127.0.0.1 port {port}" in ended.err

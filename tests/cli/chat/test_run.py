"""`appliance run`: one prompt, one answer, from a server that plays a script."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from appliance.api.app import create_app
from appliance.protocol.events import Delta, Finished, FinishReason, Started, Usage
from tests.api.conftest import Serve
from tests.api.scripted_client import ANSWER, ScriptedClient, gateway_around
from tests.cli.chat.commands import run_command
from tests.cli.chat.terminal import StartTerminal
from tests.serve.server import free_port

PERSON = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


@pytest.fixture
def client() -> ScriptedClient:
    return ScriptedClient(*ANSWER)


@pytest.fixture
async def url(serve: Serve, client: ScriptedClient) -> str:
    return serve(create_app(gateway_around(client)))


def asked(client: ScriptedClient) -> list[tuple[str, str]]:
    messages = client.requests[-1].prompt.messages  # type: ignore[union-attr]
    return [(message["role"], message["content"]) for message in messages]


async def test_standard_input_is_appended(client: ScriptedClient, url: str, tmp_path: Path) -> None:
    words = ("run", "novels", "Sum it up:", "--url", url, "--system", "Be brief.")
    ended = await run_command(tmp_path, *words, "--max-tokens", "9", typed="A letter.\n")
    assert (ended.exit_code, ended.out, ended.err) == (0, "It was a café…\n", "")
    assert asked(client) == [("system", "Be brief."), ("user", "Sum it up:\n\nA letter.")]
    assert client.requests[0].max_tokens == 9


async def test_a_running_server_is_found_by_its_port(
    client: ScriptedClient, url: str, tmp_path: Path
) -> None:
    port = url.rpartition(":")[2]
    ended = await run_command(tmp_path, "run", "org/novels", "Hello", "--port", port)
    assert (ended.exit_code, ended.out, ended.err) == (0, "It was a café…\n", "")
    assert asked(client) == [("user", "Hello")]


async def test_as_json(url: str, tmp_path: Path) -> None:
    ended = await run_command(tmp_path, "run", "novels", "Hello", "--url", url, "--json")
    record = json.loads(ended.out)
    assert record.pop("first_token_s") > 0
    assert record.pop("tokens_per_s") > 0
    assert record == {
        "model": "novels",
        "text": "It was a café…",
        "reasoning": None,
        "finish_reason": "stop",
        "num_prompt_tokens": 5,
        "num_cached_tokens": 2,
        "num_tokens": 5,
    }


async def test_a_schema_binds_the_answer(client: ScriptedClient, url: str, tmp_path: Path) -> None:
    schema = tmp_path / "person.json"
    schema.write_text(json.dumps(PERSON))
    words = ("run", "novels", "Who?", "--url", url, "--json-schema", str(schema))
    ended = await run_command(tmp_path, *words)
    grammar = client.requests[0].grammar
    assert grammar is not None
    assert (ended.exit_code, json.loads(grammar.source)) == (0, PERSON)


async def test_an_answer_that_is_cut_off_exits_4(serve: Serve, tmp_path: Path) -> None:
    usage = Usage(num_prompt_tokens=5, num_cached_tokens=0, num_completion_tokens=2)
    client = ScriptedClient(
        Started(1, 5),
        Delta(request_id=1, text="It was", num_tokens=2),
        Finished(request_id=1, reason=FinishReason.LENGTH, usage=usage),
    )
    url = serve(create_app(gateway_around(client)))
    ended = await run_command(tmp_path, "run", "novels", "Hello", "--url", url)
    assert (ended.exit_code, ended.out) == (4, "It was\n")


async def test_in_a_terminal_standard_input_is_not_read(
    client: ScriptedClient, url: str, terminal: StartTerminal
) -> None:
    shown = terminal("run", "novels", "Hello", "--url", url)
    await shown.sees("It was a café…")
    assert await shown.exit_code() == 0
    assert asked(client) == [("user", "Hello")]


@pytest.mark.parametrize(
    ("words", "exit_code", "message"),
    [
        ((), 2, "There is no prompt. Give it behind MODEL, or on standard input."),
        (("Hi", "--json-schema", "absent"), 2, "--json-schema absent cannot be read: No such"),
        (("Hi", "--url", "ftp://here"), 2, "--url must be http://HOST:PORT, https://HOST or"),
        (("Hi", "--url", f"127.0.0.1:{free_port()}"), 1, "No appliance server answers on"),
        (("Gr\udcfc\udcdfe",), 2, "What was given is not UTF-8, from its character 3 on."),
        (("Hi", "--port", str(free_port())), 2, "There is no model 'nonesuch'"),
    ],
)
async def test_what_is_wrong_is_one_line(
    tmp_path: Path, words: tuple[str, ...], exit_code: int, message: str
) -> None:
    ended = await run_command(tmp_path, "run", "nonesuch", *words)
    assert (ended.exit_code, ended.out) == (exit_code, "")
    assert ended.err.splitlines()[-1].startswith(f"error: {message}")
    assert "Traceback" not in ended.err


async def test_the_flag_that_named_the_server_is_to_be_checked(tmp_path: Path) -> None:
    words = ("Hi", "--url", f"127.0.0.1:{free_port()}")
    ended = await run_command(tmp_path, "run", "nonesuch", *words)
    assert " Check --url, or start one with " in ended.err


async def test_standard_input_that_is_not_utf8(tmp_path: Path) -> None:
    ended = await run_command(tmp_path, "run", "novels", "Translate:", typed="Gr\udcfc\udcdfe")
    assert (ended.exit_code, ended.out) == (2, "")
    assert ended.err.startswith("error: What was given is not UTF-8, from its character 15 on.")


async def test_a_model_that_the_server_lacks_is_refused(url: str, tmp_path: Path) -> None:
    ended = await run_command(tmp_path, "run", "other", "Hello", "--url", url)
    assert (ended.exit_code, ended.out) == (1, "")
    assert ended.err.startswith("error: ")
    assert "'other'" in ended.err


async def test_a_picture_is_refused(tmp_path: Path) -> None:
    ended = await run_command(tmp_path, "run", "novels", "What is this?", "--image", "a.png")
    assert (ended.exit_code, ended.out) == (2, "")
    assert ended.err.startswith("error: a.png is not sent: no model here sees pictures yet.")

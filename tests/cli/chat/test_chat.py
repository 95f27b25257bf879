"""`appliance chat` in a terminal and in a pipe, with a server that plays a script."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from appliance.api.app import create_app
from appliance.cli.chat.conversation import read_conversation
from appliance.cli.chat.slash_commands import HELP
from appliance.errors import BadSettings, WorkerLost
from appliance.protocol.events import Delta, Finished, FinishReason, Started, Usage
from tests.api.conftest import Serve
from tests.api.scripted_client import ANSWER, ScriptedClient, gateway_around
from tests.cli.chat.commands import run_command
from tests.cli.chat.terminal import CTRL_C, CTRL_D, StartTerminal

REMARK = "2 of 5 prompt"  # tokens cached: a long line is broken behind it


def serve_script(serve: Serve, client: ScriptedClient, *keys: str) -> str:
    return serve(create_app(gateway_around(client, keys)))


def finished(reason: FinishReason = FinishReason.STOP) -> Finished:
    usage = Usage(num_prompt_tokens=5, num_cached_tokens=2, num_completion_tokens=5)
    return Finished(request_id=1, reason=reason, usage=usage)


def said(client: ScriptedClient, at: int = -1) -> list[tuple[str, str]]:
    """The messages of a request, by role."""
    prompt = client.requests[at].prompt
    return [(message["role"], message["content"]) for message in prompt.messages]  # type: ignore[union-attr]


async def test_a_conversation_in_a_terminal(serve: Serve, terminal: StartTerminal) -> None:
    client = ScriptedClient(*ANSWER)
    shown = terminal("chat", "--url", serve_script(serve, client), "--system", "Be brief.")
    await shown.sees("> ")
    shown.type("How did it begin?\r")
    await shown.sees("It was a café…")
    await shown.sees(REMARK)
    await shown.sees("> ")
    shown.type("And then?\r")
    await shown.sees(REMARK)
    await shown.sees("> ")  # before it the terminal edits the line itself
    shown.type(CTRL_D)
    assert await shown.exit_code() == 0
    assert said(client) == [
        ("system", "Be brief."),
        ("user", "How did it begin?"),
        ("assistant", "It was a café…"),
        ("user", "And then?"),
    ]


async def test_ctrl_c_stops_the_answer_and_not_the_program(
    serve: Serve, terminal: StartTerminal
) -> None:
    gate = asyncio.Event()
    begun = (Started(1, 5), Delta(request_id=1, text="It was", num_tokens=2))
    client = ScriptedClient(*begun, gate, finished())
    shown = terminal("chat", "--url", serve_script(serve, client))
    await shown.sees("> ")
    shown.type("How did it begin?\r")
    await client.reached_wait.wait()
    await shown.sees("It was")
    shown.type(CTRL_C)
    await shown.sees("stopped")
    await client.closed.wait()  # the server computes no more
    gate.set()
    await shown.sees("> ")
    shown.type("Go on.\r")
    await shown.sees(REMARK)
    await shown.sees("> ")
    shown.type("/exit\r")
    assert await shown.exit_code() == 0
    assert said(client) == [
        ("user", "How did it begin?"),
        ("assistant", "It was"),
        ("user", "Go on."),
    ]


async def test_ctrl_c_at_the_prompt_gives_up_the_line(
    serve: Serve, terminal: StartTerminal
) -> None:
    client = ScriptedClient(*ANSWER)
    shown = terminal("chat", "--url", serve_script(serve, client))
    await shown.sees("> ")
    shown.type("Never mi")
    await shown.sees("Never mi")
    shown.type(CTRL_C)
    await shown.sees("> ")
    shown.type("Hello\r")
    await shown.sees(REMARK)
    assert said(client) == [("user", "Hello")]


async def test_markdown_is_drawn_and_reasoning_is_dim(
    serve: Serve, terminal: StartTerminal
) -> None:
    script = (
        Started(1, 5),
        Delta(request_id=1, text="", reasoning="Let me think.", num_tokens=2),
        Delta(request_id=1, text="# Title\n\nSome **bold** words.\n\n- a\n- b\n", num_tokens=3),
        Delta(request_id=1, text="\x1b]0;stolen\x07end", num_tokens=3),
        finished(),
    )
    client = ScriptedClient(*script)
    shown = terminal("chat", "--url", serve_script(serve, client))
    await shown.sees("> ")
    shown.type("Tell me.\r")
    await shown.sees("Let me think.")
    await shown.sees("Title")
    await shown.sees("Some bold words.")
    await shown.sees(" • a")
    await shown.sees(REMARK)
    assert "\x1b[2mLet me think." in shown.raw
    assert "\x1b[1mbold" in shown.raw
    assert "**" not in shown.text
    assert "\x1b]0;" not in shown.raw
    assert "]0;stolenend" in shown.text


async def test_texts_of_several_lines(serve: Serve, terminal: StartTerminal) -> None:
    client = ScriptedClient(*ANSWER)
    shown = terminal("chat", "--url", serve_script(serve, client))
    await shown.sees("> ")
    shown.type("one \\\r")
    await shown.sees(". ")
    shown.type("two\r")
    await shown.sees(REMARK)
    await shown.sees("> ")
    shown.type('"""three\r')
    await shown.sees(". ")
    shown.type('four"""\r')
    await shown.sees(REMARK)
    await shown.sees("> ")
    shown.type("\x1b[200~five\nsix\x1b[201~\r")  # as terminals send what is pasted
    await shown.sees(REMARK)
    questions = [text for role, text in said(client) if role == "user"]
    assert questions == ["one \ntwo", "three\nfour", "five\nsix"]


async def test_commands_in_a_pipe(serve: Serve, tmp_path: Path) -> None:
    client = ScriptedClient(*ANSWER)
    saved = tmp_path / "saved.json"
    lines = (
        "/params temperature=0 max_tokens=7",
        "/params",
        "Hello",
        "/retry",
        "/system Be kind.",
        f"/save {saved}",
        "/clear",
        "/model org/novels",
        "/model",
        f"/load {saved}",
        "Bye",
    )
    url = serve_script(serve, client)
    ended = await run_command(tmp_path, "chat", "--url", url, typed="\n".join(lines) + "\n")
    assert (ended.exit_code, ended.err) == (0, "")
    assert ended.out.splitlines() == [
        "temperature=0.0 max_tokens=7",
        "It was a café…",
        "It was a café…",
        "  novels",
        "2 messages; novels goes on.",
        "It was a café…",
    ]
    assert json.loads(saved.read_text()) == {
        "model": "novels",
        "system": "Be kind.",
        "params": {"temperature": 0.0, "max_tokens": 7},
        "messages": [
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "It was a café…"},
        ],
    }
    assert said(client) == [
        ("system", "Be kind."),
        ("user", "Hello"),
        ("assistant", "It was a café…"),
        ("user", "Bye"),
    ]
    assert [request.sampling.temperature for request in client.requests] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/nonesuch", "There is no /nonesuch. There are /model,"),
        ("/model other", "The server has no model 'other'."),
        ("/params heat=1", "There is no parameter 'heat'."),
        ("/params top_k=x", "top_k must be a whole number (got 'x')."),
        ("/params temperature=99", "temperature must be between 0 and 2 (got '99')."),
        ("Gr\udcfc\udcdfe", "What was given is not UTF-8, from its character 3 on."),
        ("/retry", "There is no question yet."),
        ("/save", "Which file? /save FILE."),
        ("/image a.png", "a.png is not sent: no model here sees pictures yet."),
        ("/load absent", "absent cannot be read: No such file or directory."),
    ],
)
async def test_what_is_wrong_is_said_and_the_conversation_goes_on(
    serve: Serve, tmp_path: Path, line: str, message: str
) -> None:
    client = ScriptedClient(*ANSWER)
    url = serve_script(serve, client)
    ended = await run_command(tmp_path, "chat", "--url", url, typed=f"{line}\nHello\n")
    assert ended.err.startswith(f"error: {message}")
    assert (ended.exit_code, ended.out) == (1, "It was a café…\n")


async def test_a_file_that_is_no_conversation_is_not_replaced(serve: Serve, tmp_path: Path) -> None:
    letter = tmp_path / "letter.txt"
    letter.write_text("Dear Ada")
    url = serve_script(serve, ScriptedClient(*ANSWER))
    ended = await run_command(tmp_path, "chat", "--url", url, typed=f"/save {letter}\n")
    assert ended.err.startswith(f"error: {letter} holds no conversation that was saved here:")
    assert letter.read_text() == "Dear Ada"


@pytest.mark.parametrize("content", ["{}", '{"model": "novels"}', "[]"])
def test_what_was_not_saved_here_is_no_conversation(tmp_path: Path, content: str) -> None:
    file = tmp_path / "other.json"
    file.write_text(content)
    with pytest.raises(BadSettings, match="holds no conversation that was saved here"):
        read_conversation(file)


def test_help_fits_a_narrow_terminal() -> None:
    assert max(map(len, HELP.splitlines())) <= 80


async def test_a_failed_answer_leaves_no_question_behind(serve: Serve, tmp_path: Path) -> None:
    client = ScriptedClient(Started(1, 5), WorkerLost("The worker is gone."))
    url = serve_script(serve, client)
    ended = await run_command(tmp_path, "chat", "--url", url, typed="One\nTwo\n")
    assert ended.err == "error: The worker is gone.\nerror: The worker is gone.\n"
    assert (ended.exit_code, said(client)) == (1, [("user", "Two")])


async def test_a_server_that_wants_a_key(serve: Serve, tmp_path: Path) -> None:
    client = ScriptedClient(*ANSWER)
    url = serve_script(serve, client, "s3cret")
    ended = await run_command(tmp_path, "chat", "--url", url, typed="Hello\n")
    assert (ended.exit_code, ended.out) == (1, "")
    assert ended.err.startswith("error: The server requires an API key.")
    keys = tmp_path / "keys"
    keys.write_text("s3cret\n")
    keys.chmod(0o600)
    flags = ("--url", url, "--api-key-file", str(keys))
    ended = await run_command(tmp_path, "chat", *flags, typed="Hello\n")
    assert (ended.exit_code, ended.out) == (0, "It was a café…\n")

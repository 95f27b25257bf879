"""/api/chat: requests to the internal one, events to Ollama's lines."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from appliance.api.ollama.chat import ChatFormat
from appliance.api.transport.completed_choice import CompletedChoice, CompletedToolCall
from appliance.errors import PromptTooLong, WorkerLost
from appliance.protocol.events import Delta, Event, Finished, Started, ToolCallPart
from appliance.protocol.grammar_kind import GrammarKind
from appliance.protocol.requests import ChatPrompt, Grammar, ToolCallRules
from appliance.protocol.sampling import SamplingParams
from tests.api.function_calls import CALLS, LOOK, SHOWN_LOOK
from tests.api.ollama.talk import END, HELLO, NOW, asked, lines, post, stopwatch, timed
from tests.api.scripted_client import ANSWER, ScriptedClient


def written(*events: Event) -> list[Any]:
    chat = ChatFormat("novels:latest", stopwatch())
    return [msgspec.to_builtins(item) for event in events for item in chat.items(0, event)]


def chunk(**message: Any) -> dict[str, Any]:
    return {
        "model": "novels:latest",
        "created_at": NOW,
        "done": False,
        "message": {"role": "assistant", "content": "", **message},
    }


# --- answers --------------------------------------------------------------------------


def test_an_answer_is_a_line_for_each_text_and_one_with_the_times() -> None:
    assert written(*timed(ANSWER)) == [
        chunk(content="It was"),
        chunk(content=" a café…"),
        {**chunk(), **END},
    ]


def test_calls_are_written_whole_with_their_arguments_as_objects() -> None:
    calls = [
        {"id": "call_1", "function": {"index": 0, "name": "look", "arguments": {"a": 1}}},
        {"id": "call_2", "function": {"index": 1, "name": "note", "arguments": {}}},
    ]
    assert written(*CALLS[:-1]) == [
        chunk(thinking="Hm"),
        chunk(content="Ok"),
        chunk(tool_calls=calls[:1]),
    ]
    *_, second, last = written(*CALLS)
    assert second == chunk(tool_calls=calls[1:])
    assert (last["done_reason"], last["message"]) == ("stop", {"role": "assistant", "content": ""})


def test_a_call_that_broke_off_is_told_as_text() -> None:
    call = ToolCallPart(0, '{"a": ', "call_1", "look")
    finished = ANSWER[-1]
    broken, _ = written(Delta(request_id=1, text="", num_tokens=1, tool_call=call), finished)
    assert broken == chunk(content='look: {"a": ')


def test_a_whole_answer_is_one_record() -> None:
    [*_, finished] = timed(CALLS)
    assert isinstance(finished, Finished)
    choice = CompletedChoice(
        finished=finished,
        text="Ok",
        tokens=None,
        reasoning="Hm",
        tool_calls=[CompletedToolCall("call_1", "look", '{"a": 1}')],
    )
    call = {"id": "call_1", "function": {"index": 0, "name": "look", "arguments": {"a": 1}}}
    record = ChatFormat("novels:latest", stopwatch()).whole([choice])
    assert msgspec.to_builtins(record) == {
        **chunk(content="Ok", thinking="Hm", tool_calls=[call]),
        **END,
        "eval_count": 9,
    }


async def test_it_streams_unless_it_is_told_not_to() -> None:
    answers = ScriptedClient(*timed(ANSWER))
    streamed = lines(await post(answers, "chat", model="novels", messages=[HELLO]))
    assert [line["message"]["content"] for line in streamed] == ["It was", " a café…", ""]
    assert [line["done"] for line in streamed] == [False, False, True]
    last = streamed[-1]
    assert 0 <= last["load_duration"] <= last["total_duration"]
    assert (last["prompt_eval_duration"], last["eval_duration"]) == (1_500_000, 2_250_000)
    whole = await post(answers, "chat", model="novels", messages=[HELLO], stream=False)
    assert whole.headers["content-type"] == "application/json"
    assert whole.json()["message"] == {"role": "assistant", "content": "It was a café…"}


async def test_a_stream_that_breaks_ends_with_an_error() -> None:
    broken = ScriptedClient(Started(1, 1), ANSWER[1], WorkerLost("It died."))
    streamed = lines(await post(broken, "chat", messages=[HELLO]))
    assert streamed[1:] == [{"error": "It died."}]


@pytest.mark.parametrize(
    ("client", "body", "status", "message"),
    [
        (ScriptedClient(), {"model": "other"}, 404, "model 'other' not found. There are: 'novels"),
        (ScriptedClient(), {"messages": [{**HELLO, "images": ["aGk="]}]}, 400, "images"),
        (ScriptedClient(), {"messages": [{"role": "wizard", "content": "x"}]}, 400, "role"),
        (ScriptedClient(), {"messages": "hi"}, 400, "messages"),
        (ScriptedClient(), {"messages": [HELLO], "options": {"top_k": "many"}}, 400, "top_k"),
        (ScriptedClient(), {"messages": [HELLO], "think": "lots"}, 400, "Invalid 'think': "),
        (ScriptedClient(), {"messages": [HELLO], "format": "xml"}, 400, "Invalid 'format': "),
        (ScriptedClient(PromptTooLong.of(9, 8)), {"messages": [HELLO]}, 400, "maximum context"),
    ],
)
async def test_a_refusal_is_an_error_in_ollamas_shape(
    client: ScriptedClient, body: dict[str, Any], status: int, message: str
) -> None:
    response = await post(client, "chat", **body)
    assert response.status_code == status
    assert response.json().keys() == {"error"}
    assert message in response.json()["error"]


# --- requests -------------------------------------------------------------------------


async def test_a_plain_request() -> None:
    [request] = (await asked("chat", model="novels:latest", messages=[HELLO])).requests
    assert request.prompt == ChatPrompt(messages=[HELLO])
    assert request.sampling == SamplingParams()
    assert (request.max_tokens, request.stop, request.keep_alive_s) == (None, [], None)
    assert request.includes_times
    assert request.grammar is None


async def test_options_are_ours_under_ollamas_names() -> None:
    options = {
        "num_ctx": 8192,
        "num_gpu": 99,
        "num_predict": 12.0,
        "temperature": 0,
        "top_k": 7,
        "top_p": 0.5,
        "min_p": 0.1,
        "seed": 3,
        "stop": ["a", "b"],
        "repeat_penalty": 1.5,
        "repeat_last_n": 9,
        "mirostat": 2,
        "mirostat_tau": 4.0,
        "mirostat_eta": 0.2,
        "typical_p": 0.9,
        "presence_penalty": 0.25,
        "frequency_penalty": 0.75,
    }
    client = await asked("chat", messages=[HELLO], options=options, keep_alive="5m")
    [request] = client.requests
    assert request.sampling == SamplingParams(
        temperature=0,
        top_k=7,
        top_p=0.5,
        min_p=0.1,
        seed=3,
        repeat_penalty=1.5,
        repeat_last_n=9,
        mirostat=2,
        mirostat_tau=4.0,
        mirostat_eta=0.2,
        typical_p=0.9,
        presence_penalty=0.25,
        frequency_penalty=0.75,
    )
    assert (request.max_tokens, request.stop, request.keep_alive_s) == (12, ["a", "b"], 300.0)


@pytest.mark.parametrize("unlimited", [-2, -1, 0])
async def test_no_limit_has_several_numbers(unlimited: int) -> None:
    client = await asked("chat", messages=[HELLO], options={"num_predict": unlimited})
    assert client.requests[0].max_tokens is None


async def test_unknown_options_are_ignored_and_named() -> None:
    options = {"top_k": 5, "flux": 1, "none": None}
    response = await post(
        ScriptedClient(*ANSWER), "chat", messages=[HELLO], options=options, novel=1
    )
    assert response.status_code == 200
    assert response.headers["x-ignored-parameters"] == "novel, options.flux"


@pytest.mark.parametrize(
    ("think", "effort"),
    [
        (None, None),
        (True, "medium"),
        (False, "none"),
        ("low", "low"),
        ("high", "high"),
        ("max", "high"),
    ],
)
async def test_thinking(think: bool | str | None, effort: str | None) -> None:
    [request] = (await asked("chat", messages=[HELLO], think=think)).requests
    assert isinstance(request.prompt, ChatPrompt)
    assert request.prompt.reasoning_effort == effort


@pytest.mark.parametrize(
    ("form", "source"),
    [
        ("", None),
        ("json", '{"type":"object"}'),
        ({"type": "integer"}, '{"type":"integer"}'),
    ],
)
async def test_formats(form: str | dict[str, str], source: str | None) -> None:
    [request] = (await asked("chat", messages=[HELLO], format=form)).requests
    expected = None if source is None else Grammar(GrammarKind.JSON_SCHEMA, source, "format")
    assert request.grammar == expected


async def test_calls_and_their_results() -> None:
    messages = [
        HELLO,
        {
            "role": "assistant",
            "content": "",
            "thinking": "Hm",
            "tool_calls": [{"function": {"name": "look", "arguments": {"a": 1}}}],
        },
        {"role": "tool", "content": "a cat", "tool_name": "look"},
    ]
    [request] = (await asked("chat", messages=messages, tools=[LOOK])).requests
    assert isinstance(request.prompt, ChatPrompt)
    assert request.tool_calls == ToolCallRules()
    assert request.prompt.tools == [SHOWN_LOOK]
    _, called, result = request.prompt.messages
    assert called["tool_calls"] == [
        {
            "id": "call00001",
            "type": "function",
            "function": {"name": "look", "arguments": '{"a":1}'},
        }
    ]
    assert called["reasoning_content"] == "Hm"
    assert result == {
        "role": "tool",
        "content": "a cat",
        "name": "look",
        "tool_call_id": "call00001",
    }


@pytest.mark.parametrize(("keep_alive", "reason"), [(None, "load"), (0, "unload"), ("5m", "load")])
async def test_without_messages_the_model_is_loaded_or_unloaded(
    keep_alive: int | str | None, reason: str
) -> None:
    client = ScriptedClient()
    response = await post(client, "chat", model="novels", keep_alive=keep_alive)
    assert response.status_code == 200
    answer = response.json()
    assert (answer["done"], answer["done_reason"]) == (True, reason)
    assert answer["message"] == {"role": "assistant", "content": ""}
    assert client.requests == []

"""Calls and reasoning through OpenAI's client, from a model of novels that is given a
template with both.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.conftest import CHECKPOINT
from tests.serve.server import Server, StartServer, environment, free_port

TEMPLATE = Path(__file__).parent / "calling.jinja"
VISIT: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "visit",
        "description": "Goes to see somebody.",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {
                "whom": {"type": "string", "maxLength": 20},
                "hour": {"type": "integer", "minimum": 0, "maximum": 23},
                "mood": {"enum": ["glad", "sad"]},
            },
            "required": ["whom", "hour", "mood"],
            "additionalProperties": False,
        },
    },
}
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the current weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "The name of the city"}},
            "required": ["city"],
        },
    },
}
CLOCK: dict[str, Any] = {
    "type": "function",
    "function": {"name": "set_timer", "description": "Set a timer for some minutes"},
}
LEAVE: dict[str, Any] = {"type": "function", "function": {"name": "leave"}}
HELLO: list[Any] = [{"role": "user", "content": "Whom did she visit?"}]


@pytest.fixture(scope="module")
def calling_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded checkpoint with another template, converted."""
    folder = tmp_path_factory.mktemp("calling") / "novels-calling"
    shutil.copytree(CHECKPOINT, folder)
    shutil.copyfile(TEMPLATE, folder / "chat_template.jinja")
    out = folder.parent / "made"
    command = [sys.executable, "-m", "convert", str(folder), "--out", str(out), "--types", "Q8_0"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (path,) = out.glob("*.gguf")
    return path


@pytest.fixture
def server(start_server: StartServer, calling_model: Path) -> Server:
    return start_server(str(calling_model))


def is_visit(arguments: str) -> bool:
    given = json.loads(arguments)
    return (
        set(given) == {"whom", "hour", "mood"}
        and 0 <= given["hour"] <= 23
        and given["mood"] in ("glad", "sad")
    )


def test_calls_through_openais_client(server: Server) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as api:
        model = api.models.list().data[0].id
        messages = list(HELLO)
        for seed in range(3):
            answer = api.chat.completions.create(
                model=model,
                messages=messages,
                tools=[VISIT, LEAVE],  # type: ignore[list-item] # plain dicts, as people write them
                tool_choice={"type": "function", "function": {"name": "visit"}},
                reasoning_effort="none",
                seed=seed,
                temperature=1.5,
            )
            (choice,) = answer.choices
            assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
            assert choice.message.tool_calls is not None
            (call,) = choice.message.tool_calls
            assert call.type == "function"
            assert call.function.name == "visit"
            assert is_visit(call.function.arguments)
            # As clients do: the answer as it came, and what the function gave.
            messages += [
                choice.message,
                {"role": "tool", "tool_call_id": call.id, "content": "She was out."},
            ]
        parsed = api.chat.completions.parse(
            model=model,
            messages=messages,
            tools=[VISIT],
            tool_choice="required",
            parallel_tool_calls=False,
            reasoning_effort="none",  # type: ignore[list-item]
        )
        calls = parsed.choices[0].message.tool_calls
        assert calls is not None
        assert all(isinstance(call.function.parsed_arguments, dict) for call in calls)

        with pytest.raises(openai.BadRequestError, match="no function named 'sing'") as refused:
            api.chat.completions.create(
                model=model,
                messages=messages,
                tools=[VISIT],  # type: ignore[list-item]
                tool_choice={"type": "function", "function": {"name": "sing"}},
            )
        assert refused.value.param == "tool_choice"


def test_streamed_calls_and_reasoning_through_openais_async_client(server: Server) -> None:
    async def talk() -> None:
        async with openai.AsyncOpenAI(
            base_url=f"{server.url}/v1", api_key="none", max_retries=0
        ) as api:
            model = (await api.models.list()).data[0].id
            stream = await api.chat.completions.create(
                model=model,
                messages=HELLO,
                tools=[VISIT, LEAVE],  # type: ignore[list-item]
                tool_choice={"type": "function", "function": {"name": "visit"}},
                extra_body={"reasoning_budget": 10},
                stream=True,
                stream_options={"include_usage": True},
            )
            reasoning, arguments, content, names, pieces = "", "", "", [], 0
            reason, usage = None, None
            async for chunk in stream:
                usage = chunk.usage or usage
                for choice in chunk.choices:
                    reasoning += getattr(choice.delta, "reasoning_content", None) or ""
                    content += choice.delta.content or ""
                    for call in choice.delta.tool_calls or []:
                        assert call.function is not None
                        names += [call.function.name] if call.function.name else []
                        arguments += call.function.arguments or ""
                        pieces += 1
                    reason = choice.finish_reason or reason
            assert reasoning
            assert (names, content, reason) == (["visit"], "", "tool_calls")
            assert is_visit(arguments)
            assert pieces > 5, "as they come"
            assert usage is not None
            assert usage.completion_tokens_details is not None
            assert usage.completion_tokens_details.reasoning_tokens is not None
            assert usage.completion_tokens_details.reasoning_tokens >= 10

    asyncio.run(talk())


def test_a_form_comes_behind_the_reasoning(server: Server) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as api:
        answer = api.chat.completions.create(
            model=api.models.list().data[0].id,
            messages=HELLO,
            extra_body={"reasoning_budget": 5, "structured_outputs": {"choice": ["yes", "no"]}},
        )
    message = answer.choices[0].message
    assert message.content in ("yes", "no")
    assert getattr(message, "reasoning_content", "")


def test_a_template_by_name_and_functions_only_where_it_shows_them(
    start_server: StartServer,
) -> None:
    server = start_server("novels-6m", "--tools", "native", "--chat-template", "zephyr")
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as api:
        model = api.models.list().data[0].id
        create = api.chat.completions.create
        with pytest.raises(openai.BadRequestError, match="does not support functions") as refused:
            create(model=model, messages=HELLO, tools=[LEAVE])  # type: ignore[list-item]
    assert refused.value.param == "tools"
    body = {"messages": HELLO}
    rendered = httpx.post(f"{server.url}/apply-template", json=body, timeout=30).json()
    assert rendered == {"prompt": "<|user|>\nWhom did she visit?<|im_end|>\n<|assistant|>\n"}
    assert httpx.get(f"{server.url}/props", timeout=30).json()["tool_use"] == "none"


def test_a_template_that_cannot_be_used_is_told_at_the_start(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "wrong.jinja"
    path.write_text("{{ raise_exception('Not here.') }}")
    command = [sys.executable, "-m", "appliance", "serve", "novels-6m", "--no-tune"]
    for value, says in (
        ("chatmll", "--chat-template must be a file, or one of"),
        (str(path), "--chat-template cannot be used: a message of the user cannot be shown by it."),
    ):
        ended = subprocess.run(
            [*command, "--port", str(free_port()), "--chat-template", value],
            env=environment(home),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert ended.returncode != 0
        assert says in ended.stderr


def test_a_real_model_calls_functions_that_its_template_does_not_show(
    real_api: openai.OpenAI,
) -> None:
    """At temperature 0, where the best token is well ahead of the next."""
    answer = real_api.chat.completions.create(
        model="real",
        messages=[{"role": "user", "content": "What is the weather in Paris?"}],
        tools=[WEATHER, CLOCK],  # type: ignore[list-item]
        tool_choice="required",
        parallel_tool_calls=False,
        temperature=0,
    )
    (choice,) = answer.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls
    assert call.type == "function"
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": "Paris"}
    told = real_api.chat.completions.create(
        model="real",
        messages=[
            {"role": "user", "content": "What is the weather in Paris?"},
            choice.message,  # type: ignore[list-item]
            {"role": "tool", "tool_call_id": call.id, "content": "Sunny, 21 degrees"},
        ],
        temperature=0,
        max_tokens=40,
    )
    assert "sunny" in str(told.choices[0].message.content).lower()

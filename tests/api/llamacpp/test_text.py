"""llama.cpp's helpers: what is asked of the worker, and how its answers read."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import pytest

from appliance.errors import TemplateFailed
from appliance.protocol.events import AskResult
from appliance.protocol.questions import Detokenize, Question, RenderChat, Tokenize
from appliance.protocol.requests import ChatPrompt, TextPrompt
from tests.api.function_calls import LOOK, SHOWN_LOOK
from tests.api.scripted_client import ScriptedClient, http_around

USER = {"role": "user", "content": "Hello"}


async def post(
    path: str, body: dict[str, Any], answer: AskResult
) -> tuple[list[Question], dict[str, Any]]:
    client = ScriptedClient()
    client.answer = answer
    async with http_around(client) as http:
        response = await http.post(path, json=body)
    assert response.status_code == 200, response.text
    return client.questions, response.json()


async def test_tokens_of_a_text() -> None:
    questions, body = await post(
        "/tokenize", {"content": "Hi"}, AskResult(1, tokens=[5, 6], pieces=[b"H", b"i"])
    )
    assert questions == [Tokenize(TextPrompt("Hi"), adds_special=False, parses_special=True)]
    assert body == {"tokens": [5, 6]}


async def test_what_is_no_whole_character_is_shown_as_bytes() -> None:
    fields = {
        "content": "é!",
        "add_special": True,
        "parse_special": False,
        "with_pieces": True,
        "model": "novels",
    }
    questions, body = await post(
        "/tokenize", fields, AskResult(1, tokens=[7, 8, 9], pieces=[b"\xc3", b"\xa9", b"!"])
    )
    assert questions == [Tokenize(TextPrompt("é!"), adds_special=True, parses_special=False)]
    assert body == {
        "tokens": [{"id": 7, "piece": [195]}, {"id": 8, "piece": [169]}, {"id": 9, "piece": "!"}]
    }


async def test_text_of_tokens() -> None:
    questions, body = await post("/detokenize", {"tokens": [5, 6]}, AskResult(1, "Hi"))
    assert questions == [Detokenize([5, 6])]
    assert body == {"content": "Hi"}


async def test_what_a_template_makes_of_messages() -> None:
    begun = {"role": "assistant", "content": "Well"}
    fields = {"messages": [USER, begun], "chat_template_kwargs": {"enable_thinking": False}}
    questions, body = await post("/apply-template", fields, AskResult(1, "<user>Hello"))
    assert questions == [
        RenderChat(
            ChatPrompt(
                messages=[USER, begun],
                arguments={"enable_thinking": False},
                continue_final_message=True,
            )
        )
    ]
    assert body == {"prompt": "<user>Hello"}


async def test_a_template_is_shown_functions_and_how_much_to_reason() -> None:
    fields = {"messages": [USER], "tools": [LOOK], "reasoning_effort": "none"}
    questions, _ = await post("/apply-template", fields, AskResult(1, "<user>Hello"))
    assert questions == [
        RenderChat(ChatPrompt(messages=[USER], tools=[SHOWN_LOOK], reasoning_effort="none"))
    ]


async def test_what_a_model_is_and_how_it_is_served() -> None:
    client = ScriptedClient()
    client.answer = AskResult(1, "{{ messages }}", pieces=[b"<s>", b"</s>", b""])
    async with http_around(client) as http:
        body = (await http.get("/props", params={"model": "novels"})).json()
        unknown = await http.get("/props", params={"model": "nobody"})
    params = body["default_generation_settings"].pop("params")
    assert body == {
        "default_generation_settings": {"n_ctx": 2048},
        "total_slots": 4,
        "model_alias": "novels",
        "model_ftype": "Q8_0",
        "chat_template": "{{ messages }}",
        "tool_use": "generic",
        "exact_rows": False,
        "bos_token": "<s>",
        "eos_token": "</s>",
        "modalities": {"vision": False, "video": False, "audio": False},
        "model_path": "novels",
        "endpoint_slots": True,
        "endpoint_props": False,
        "endpoint_metrics": True,
        "is_sleeping": False,
        "build_info": f"appliance {version('appliance')}",
    }
    assert (params["temperature"], params["top_k"], params["min_p"], params["dry_multiplier"]) == (
        0.8,
        40,
        0.05,
        0.0,
    )
    assert unknown.status_code == 404


async def test_a_template_for_functions_is_told_apart() -> None:
    client = ScriptedClient()
    client.answer = AskResult(1, "{{ messages }}", pieces=[b"<s>", b"</s>", b"{{ tools }}"])
    async with http_around(client) as http:
        body = (await http.get("/props")).json()
    assert (body["chat_template"], body["chat_template_tool_use"]) == (
        "{{ messages }}",
        "{{ tools }}",
    )


async def test_refusals_name_the_parameter() -> None:
    client = ScriptedClient()
    client.answer = TemplateFailed("It has none.", param="messages")
    async with http_around(client) as http:
        refused = await http.post("/apply-template", json={"messages": [USER]})
        unknown = await http.post("/tokenize", json={"content": "Hi", "model": "nobody"})
        wrong = await http.post("/detokenize", json={"tokens": ["Hi"]})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "messages")
    assert (unknown.status_code, unknown.json()["error"]["param"]) == (404, "model")
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "tokens[0]")
    assert len(client.questions) == 1


@pytest.mark.parametrize("path", ["/tokenize", "/detokenize", "/apply-template"])
async def test_a_body_is_needed(path: str) -> None:
    async with http_around(ScriptedClient()) as http:
        assert (await http.post(path, json={})).status_code == 400

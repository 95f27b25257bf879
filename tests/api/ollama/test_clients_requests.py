"""Requests in the shapes of programs made for Ollama: Open WebUI 0.12 and Home Assistant
2026.11 (from their sources), LiteLLM 1.110 and langchain-ollama 1.1 (as they sent them).
"""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest

from appliance.protocol.events import EmbedResult
from appliance.protocol.requests import ChatPrompt, EmbedRequest, TextPrompt
from tests.api.ollama.talk import asked, post, timed
from tests.api.scripted_client import ANSWER, ScriptedClient, http_around

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Gets the weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


async def prompt_of(path: str, body: dict[str, Any]) -> ChatPrompt:
    """Of a request that is answered, none of whose fields is ignored."""
    client = ScriptedClient(*timed(ANSWER))
    response = await post(client, path, **body)
    assert response.status_code == 200, response.text
    assert "x-ignored-parameters" not in response.headers
    [request] = client.requests
    assert isinstance(request.prompt, ChatPrompt)
    return request.prompt


# --- Open WebUI -----------------------------------------------------------------------


async def test_open_webui_sends_results_by_the_id_of_their_call() -> None:
    call = {"index": 0, "id": None, "function": {"name": "get_weather", "arguments": {"city": "X"}}}
    prompt = await prompt_of(
        "chat",
        {
            "model": "novels:latest",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Hello"},
                {"role": "assistant", "thinking": "Hm.", "tool_calls": [call], "content": ""},
                {"role": "tool", "content": "rain", "tool_call_id": "call00001"},
            ],
            "stream": True,
            "tools": [WEATHER],
            "options": {
                "temperature": 0.8,
                "top_p": 0.9,
                "mirostat": 0,
                "num_ctx": 8192,
                "num_keep": 24,
                "num_predict": 128,
                "repeat_last_n": 64,
                "stop": ["</s>"],
                "use_mmap": True,
            },
            "keep_alive": "5m",
            "think": True,
        },
    )
    assert [message["role"] for message in prompt.messages] == [
        "system",
        "user",
        "assistant",
        "tool",
    ]
    assert prompt.messages[2]["tool_calls"][0]["id"] == "call00001"
    assert prompt.tools == [WEATHER]


async def test_open_webui_asks_for_titles_whole_and_in_a_format() -> None:
    schema = {"type": "object", "properties": {"title": {"type": "string"}}}
    client = await asked(
        "chat",
        model="novels:latest",
        messages=[{"role": "user", "content": "Name this."}],
        stream=False,
        format=schema,
        options={"num_predict": 1000},
    )
    assert client.requests[0].grammar is not None


@pytest.mark.parametrize("path", ["embed", "embeddings"])
async def test_open_webui_asks_for_vectors_in_both_forms_at_once(path: str) -> None:
    client = ScriptedClient()
    client.embedded = EmbedResult(1, struct.pack("<f", 1.0), 1, 3)
    body = {"model": "novels", "input": ["a"], "prompt": "a", "truncate": True}
    assert (await post(client, path, **body)).status_code == 200
    [request] = client.embed_requests
    assert isinstance(request, EmbedRequest)
    assert request.inputs == [TextPrompt("a")]


async def test_open_webui_unloads_with_an_empty_prompt() -> None:
    body = {"model": "novels:latest", "keep_alive": 0, "prompt": ""}
    line = (await post(ScriptedClient(), "generate", **body)).json()
    assert (line["done"], line["done_reason"], line["response"]) == (True, "unload", "")


# --- Home Assistant -------------------------------------------------------------------


def home_assistants(messages: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {
        "model": "novels:latest",
        "messages": messages,
        "tools": [WEATHER],
        "stream": True,
        "options": {"num_ctx": 8192.0},
        "keep_alive": -1,
        "think": False,
        **more,
    }


CALL = {"function": {"name": "get_weather", "arguments": {"city": "X"}}}
RESULT = {"role": "tool", "content": '{"data":{"weather":"rain"},"error":null}'}


async def test_home_assistant_names_neither_calls_nor_results() -> None:
    prompt = await prompt_of(
        "chat",
        home_assistants(
            [
                {"role": "system", "content": "You control a home."},
                {"role": "user", "content": "Weather in X and Y?"},
                {"role": "assistant", "content": "", "tool_calls": [CALL, CALL]},
                RESULT,
                RESULT,
            ]
        ),
    )
    ids = [call["id"] for call in prompt.messages[2]["tool_calls"]]
    assert [message["tool_call_id"] for message in prompt.messages[3:]] == ids
    assert ids == ["call00001", "call00002"]


async def test_home_assistant_cuts_a_conversation_between_a_call_and_its_result() -> None:
    prompt = await prompt_of(
        "chat",
        home_assistants(
            [
                {"role": "system", "content": "You control a home."},
                RESULT,
                {"role": "assistant", "content": "It rains."},
                {"role": "user", "content": "And in Y?"},
                {"role": "assistant", "tool_calls": [CALL]},
                RESULT,
            ],
            keep_alive="300s",
        ),
    )
    assert prompt.messages[1]["tool_call_id"] == "call00001"
    assert prompt.messages[4]["tool_calls"][0]["id"] == "call00002"
    assert prompt.messages[5]["tool_call_id"] == "call00002"


async def test_home_assistant_asks_for_data_in_a_format() -> None:
    schema = {"type": "object", "properties": {"count": {"type": "integer"}}, "required": ["count"]}
    client = await asked("chat", **home_assistants([{"role": "user", "content": "?"}], tools=None))
    assert client.requests[0].grammar is None
    body = home_assistants([{"role": "user", "content": "?"}], tools=None, format=schema)
    assert (await asked("chat", **body)).requests[0].grammar is not None


# --- LiteLLM and LangChain ------------------------------------------------------------


async def test_litellm_says_nowhere_that_it_sends_json() -> None:
    body = {
        "model": "novels",
        "messages": [
            {"role": "user", "content": "Hello", "images": []},
            {
                "role": "assistant",
                "content": "",
                "images": [],
                "tool_calls": [
                    {"id": "c1", "function": {"name": "get_weather", "arguments": {"city": "X"}}}
                ],
            },
            {"role": "tool", "content": "rain", "images": [], "tool_call_id": "c1"},
        ],
        "options": {
            "temperature": 0,
            "top_p": 0.9,
            "stop": ["zz"],
            "num_predict": 8,
            "repeat_penalty": 1.1,
            "seed": 1,
        },
        "stream": False,
        "tools": [WEATHER],
        "think": True,
    }
    client = ScriptedClient(*timed(ANSWER))
    async with http_around(client) as http:
        response = await http.post("/api/chat", content=json.dumps(body))
    assert "content-type" not in response.request.headers
    assert response.json()["message"]["content"] == "It was a café…"
    assert "x-ignored-parameters" not in response.headers
    prompt = client.requests[0].prompt
    assert isinstance(prompt, ChatPrompt)
    assert prompt.messages[2]["tool_call_id"] == "c1"


async def test_langchain_names_every_option_whether_set_or_not() -> None:
    unset = ("num_gpu", "num_thread", "tfs_z", "mirostat", "mirostat_eta", "temperature", "stop")
    prompt = await prompt_of(
        "chat",
        {
            "model": "novels",
            "stream": True,
            "options": {"num_ctx": 2048, "num_predict": 12, **dict.fromkeys(unset)},
            "keep_alive": "5m",
            "messages": [
                {"role": "user", "content": "w"},
                {"role": "assistant", "tool_calls": [CALL]},
                {"role": "tool", "content": "rain"},
            ],
            "tools": [],
        },
    )
    assert prompt.tools is None
    assert prompt.messages[2]["tool_call_id"] == prompt.messages[1]["tool_calls"][0]["id"]

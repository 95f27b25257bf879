"""The places in a schema that an answer may not keep to are named in a header of every
kind of response.
"""

from __future__ import annotations

from typing import Any

import pytest

from appliance.protocol.events import Started
from appliance.protocol.grammar_kind import GrammarKind
from appliance.protocol.requests import Grammar
from tests.api.scripted_client import ANSWER, ScriptedClient, http_around

PLACES = ["#/properties/a/uniqueItems", "look#/properties/ä,b/not"]
HEADER = "#/properties/a/uniqueItems, look#/properties/%C3%A4%2Cb/not"
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}]}
SCHEMA = {"type": "object"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", CHAT),
        ("/v1/chat/completions", {**CHAT, "n": 2}),
        ("/v1/completions", {"prompt": "Hi"}),
        ("/v1/responses", {"input": "Hi"}),
    ],
)
async def test_the_places_are_in_the_header(path: str, body: dict[str, Any], stream: bool) -> None:
    client = ScriptedClient(Started(1, 5, PLACES), *ANSWER[1:])
    async with http_around(client) as http:
        answer = await http.post(path, json={**body, "stream": stream})
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-unenforced-schema"] == HEADER


async def test_there_is_none_where_all_is_kept_to() -> None:
    async with http_around(ScriptedClient(*ANSWER)) as http:
        answer = await http.post("/v1/completions", json={"prompt": "Hi"})
    assert "x-unenforced-schema" not in answer.headers


async def test_many_places_are_not_all_named() -> None:
    client = ScriptedClient(Started(1, 5, [f"#/{at}" for at in range(100)]), *ANSWER[1:])
    async with http_around(client) as http:
        answer = await http.post("/v1/completions", json={"prompt": "Hi"})
    named = answer.headers["x-unenforced-schema"].split(", ")
    assert (len(named), named[31], named[32]) == (33, "#/31", "...")


@pytest.mark.parametrize("strict", [None, False, True])
async def test_strict_goes_to_the_worker(strict: bool | None) -> None:
    client = ScriptedClient(*ANSWER)
    named = {"name": "m", "schema": SCHEMA, "strict": strict}
    tool = {"type": "function", "function": {"name": "look", "strict": strict}}
    async with http_around(client) as http:
        for path, body in (
            (
                "chat/completions",
                {**CHAT, "response_format": {"type": "json_schema", "json_schema": named}},
            ),
            (
                "responses",
                {"input": "Hi", "text": {"format": {"type": "json_schema", **named}}},
            ),
            ("chat/completions", {**CHAT, "tools": [tool]}),
        ):
            answer = await http.post(f"/v1/{path}", json=body)
            assert answer.status_code == 200, answer.text
    chat, response, call = client.requests
    source = '{"type":"object"}'
    assert [chat.grammar, response.grammar] == [
        Grammar(GrammarKind.JSON_SCHEMA, source, param, strict is True)
        for param in ("response_format.json_schema.schema", "text.format.schema")
    ]
    assert call.tool_calls.strict_names == (["look"] if strict else [])

"""/v1/messages through Anthropic's client, with the real model."""

from __future__ import annotations

import asyncio
from typing import Any

import anthropic
import httpx

from tests.api.anthropic.claude_code_requests import CLI, probe, turn
from tests.serve.server import StartServer

ASKED: dict[str, Any] = {
    "model": "novels-6m",
    "max_tokens": 12,
    "messages": [{"role": "user", "content": "Once upon a time"}],
    "extra_body": {"temperature": 0, "ignore_eos": True},
}
LOOK = {
    "name": "look",
    "input_schema": {
        "type": "object",
        "properties": {"at": {"enum": ["sea", "sky"]}},
        "required": ["at"],
    },
}


def test_messages_through_anthropics_clients(start_server: StartServer) -> None:
    server = start_server("novels-6m")
    with anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0) as api:
        whole = api.messages.create(**ASKED)
        [block] = whole.content
        assert block.type == "text"
        assert (whole.stop_reason, whole.usage.output_tokens) == ("max_tokens", 12)
        with api.messages.stream(**ASKED) as stream:
            assert "".join(stream.text_stream) == block.text
            again = stream.get_final_message()
        counted = api.messages.count_tokens(model="novels-6m", messages=ASKED["messages"])
        for usage in (whole.usage, again.usage):
            assert usage.input_tokens + (usage.cache_read_input_tokens or 0) == counted.input_tokens
        # this model does not think
        asked = {**ASKED, "thinking": {"type": "enabled", "budget_tokens": 1024}}
        assert api.messages.create(**asked).content == whole.content
        # the prompt alone
        warm = api.messages.create(**{**ASKED, "max_tokens": 0})
        assert (warm.content, warm.stop_reason, warm.usage.output_tokens) == ([], "max_tokens", 0)
        called = api.messages.create(
            **{**ASKED, "max_tokens": 400, "extra_body": {}},
            tools=[LOOK],
            tool_choice={"type": "tool", "name": "look"},
        )
        [call] = called.content
        assert call.type == "tool_use"
        assert (called.stop_reason, call.name) == ("tool_use", "look")
        assert call.input in ({"at": "sea"}, {"at": "sky"})

    async def talk() -> str:
        async with (
            anthropic.AsyncAnthropic(base_url=server.url, api_key="none", max_retries=0) as api,
            api.messages.stream(**ASKED) as stream,
        ):
            return await stream.get_final_text()

    assert asyncio.run(talk()) == block.text


def test_claude_codes_second_turn_computes_only_what_is_new(start_server: StartServer) -> None:
    server = start_server("novels-6m")
    with httpx.Client(base_url=server.url, headers=CLI, timeout=60) as http:

        def post(body: dict[str, Any], path: str = "") -> dict[str, Any]:
            response = http.post(f"/v1/messages{path}?beta=true", json=body)
            assert response.status_code == 200, response.text
            answer: dict[str, Any] = response.json()
            return answer

        def asked(number: int) -> dict[str, Any]:
            # One token of the answer, which is none of the cache's: what is found there
            # later is the first prompt, and nothing else.
            return {**turn(number, model="novels-6m"), "max_tokens": 1}

        num_tokens = [post(asked(number), "/count_tokens")["input_tokens"] for number in (1, 2)]
        first = post(asked(1))["usage"]
        assert (first["input_tokens"], first["cache_read_input_tokens"]) == (num_tokens[0], 0)
        assert post({**probe("quota"), "model": "novels-6m"})["usage"]["output_tokens"] == 0
        second = post(asked(2))["usage"]
        assert second["cache_read_input_tokens"] == num_tokens[0]
        assert second["input_tokens"] == num_tokens[1] - num_tokens[0]

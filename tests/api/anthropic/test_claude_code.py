"""Claude Code's requests, in the shapes that users of other servers report: what changes
every turn stays out of the prompt, and what nobody reads is not computed.
"""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from appliance.api.anthropic.claude_code import without_billing
from appliance.protocol.events import AskResult
from appliance.protocol.questions import Tokenize
from appliance.protocol.requests import ChatPrompt
from tests.api.anthropic.claude_code_requests import CLI, probe, turn
from tests.api.scripted_client import ANSWER, ScriptedClient, http_around

LINE = "x-anthropic-billing-header: cc_version=2.1.37.0d9; cc_entrypoint=cli; cch=fa690;"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (LINE, ""),
        (LINE + "\n", ""),
        (f"{LINE}\nYou are Claude Code.", "You are Claude Code."),
        (f"{LINE}You are Claude Code.", "You are Claude Code."),
        (f"{LINE} You are Claude Code.", "You are Claude Code."),
        ("x-anthropic-billing-header: cc_version=9.9.9; cc_entrypoint=sdk-cli;", ""),
        ("x-anthropic-billing-header: cc_version=9.9.9; cch=1a; cc_workload=cron", ""),
        (f"You are Claude Code.\n{LINE}", f"You are Claude Code.\n{LINE}"),
        ("", ""),
    ],
)
def test_the_billing_line_is_taken_off_the_beginning(text: str, kept: str) -> None:
    assert without_billing(text) == kept


async def posted(client: ScriptedClient, body: dict[str, Any], path: str = "") -> httpx.Response:
    async with http_around(client) as http:
        return await http.post(f"/v1/messages{path}?beta=true", json=body, headers=CLI)


async def prompt_of(body: dict[str, Any]) -> ChatPrompt:
    client = ScriptedClient(*ANSWER)
    response = await posted(client, body)
    assert (response.status_code, "x-ignored-parameters" in response.headers) == (200, False)
    prompt = client.requests[0].prompt
    assert isinstance(prompt, ChatPrompt)
    return prompt


async def test_a_second_turn_begins_as_the_first() -> None:
    first, second = await prompt_of(turn(1)), await prompt_of(turn(2))
    assert first.messages == second.messages[: len(first.messages)]
    assert (first.tools, first.arguments) == (second.tools, second.arguments)
    assert first.messages[0]["content"].startswith("You are Claude Code")
    assert [message["role"] for message in second.messages] == [
        "system",
        "user",
        "assistant",
        "tool",
        "user",
    ]


async def test_instructions_between_messages_begin_both_turns_alike() -> None:
    # as 2.1.197 lists its agents and skills
    listed = {"role": "system", "content": "Available agent types for the Agent tool:\n- Explore"}

    def with_list(body: dict[str, Any]) -> dict[str, Any]:
        first, *rest = body["messages"]
        return {**body, "messages": [first, listed, *rest]}

    first, second = await prompt_of(with_list(turn(1))), await prompt_of(with_list(turn(2)))
    assert [message["role"] for message in first.messages] == ["system", "user", "system"]
    assert first.messages == second.messages[: len(first.messages)]
    assert first.messages[2] == listed


@pytest.mark.parametrize("text", ["quota", "count"])
@pytest.mark.parametrize("stream", [False, True])
async def test_probes_are_answered_by_counting(text: str, stream: bool) -> None:
    client = ScriptedClient(*ANSWER)
    client.answer = AskResult(1, tokens=[7, 8, 9])
    response = await posted(client, {**probe(text), "stream": stream})
    assert response.status_code == 200
    assert client.requests == []
    assert [type(question) for question in client.questions] == [Tokenize]
    if not stream:
        message = response.json()
        assert (message["content"], message["stop_reason"]) == ([], "max_tokens")
        assert (message["usage"]["input_tokens"], message["usage"]["output_tokens"]) == (3, 0)


async def test_whoever_else_sends_these_words_gets_an_answer() -> None:
    client = ScriptedClient(*ANSWER)
    async with http_around(client) as http:
        await http.post("/v1/messages", json=probe("quota"))
        await http.post("/v1/messages", json={**probe("quota"), "max_tokens": 2}, headers=CLI)
        await http.post("/v1/messages", json=probe("Quota?"), headers=CLI)
    assert len(client.requests) == 3


async def test_counting_asks_for_the_prompt_of_the_request_itself() -> None:
    client = ScriptedClient(*ANSWER)
    client.answer = AskResult(1, tokens=[7] * 12)
    response = await posted(client, turn(2), "/count_tokens")
    assert response.json() == {"input_tokens": 12}
    assert response.headers["request-id"].startswith("req_")
    assert client.questions == [Tokenize(await prompt_of(turn(2)))]
    assert client.requests == []

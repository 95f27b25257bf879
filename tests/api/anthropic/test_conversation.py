"""A system prompt and messages of blocks become the messages that templates read."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.protocol.requests import ChatPrompt
from tests.api.anthropic.talk import HI, asked, refused, shown

TEXT = {"type": "text", "text": "Look.", "cache_control": {"type": "ephemeral"}}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": "sea", "n": 1}}
SHOWN_CALL = {
    "id": "toolu_1",
    "type": "function",
    "function": {"name": "look", "arguments": '{"at":"sea","n":1}'},
}


def result(content: Any = "A gull.", **fields: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": "toolu_1", "content": content, **fields}


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": [*blocks]}


def assistant(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": [*blocks]}


async def test_a_text_is_the_shorthand_for_one_block() -> None:
    for content in ("Look.", [TEXT]):
        for system in ("Be brief.", [{"type": "text", "text": "Be brief."}]):
            assert await shown(system=system, messages=[{"role": "user", "content": content}]) == [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Look."},
            ]


async def test_a_conversation_with_thinking_calls_and_results() -> None:
    said = assistant({"type": "thinking", "thinking": "Hm", "signature": "x"}, TEXT, CALL)
    redacted = {"type": "redacted_thinking", "data": "x"}
    assert await shown(
        messages=[HI, said, user(result(), TEXT), assistant(redacted, TEXT), HI]
    ) == [
        HI,
        {
            "role": "assistant",
            "content": "Look.",
            "reasoning_content": "Hm",
            "tool_calls": [SHOWN_CALL],
        },
        {"role": "tool", "content": "A gull.", "tool_call_id": "toolu_1"},
        {"role": "user", "content": "Look."},
        {"role": "assistant", "content": "Look."},
        HI,
    ]


async def test_turns_of_one_role_are_one() -> None:
    instructions = {"role": "system", "content": "Hurry."}
    messages = [
        instructions,
        HI,
        user(TEXT, TEXT),
        assistant(TEXT),
        assistant(CALL),
        user(result()),
    ]
    assert await shown(system="Be brief.", messages=messages) == [
        {"role": "system", "content": "Be brief.\nHurry."},
        {"role": "user", "content": "Hi\nLook.\nLook."},
        {"role": "assistant", "content": "Look.", "tool_calls": [SHOWN_CALL]},
        {"role": "tool", "content": "A gull.", "tool_call_id": "toolu_1"},
    ]


async def test_results_come_right_behind_their_calls() -> None:
    messages = [HI, assistant(CALL), user(TEXT, result())]
    assert [message["role"] for message in await shown(messages=messages)] == [
        "user",
        "assistant",
        "tool",
        "user",
    ]


@pytest.mark.parametrize(
    ("block", "text"),
    [
        (result(), "A gull."),
        (result(None), ""),
        (result([]), ""),
        (result([TEXT, TEXT]), "Look.\nLook."),
        (result(is_error=False), "A gull."),
        (result("No sea.", is_error=True), "Error: No sea."),
        (result(None, is_error=True), "Error"),
        (result("Error: no sea", is_error=True), "Error: no sea"),
        (result("<tool_use_error>No", is_error=True), "<tool_use_error>No"),
        (result([{"type": "tool_reference", "tool_name": "look"}]), "look"),
        (
            result([{"type": "search_result", "title": "T", "source": "S", "content": [TEXT]}]),
            "T\nS\nLook.",
        ),
    ],
)
async def test_results(block: dict[str, Any], text: str) -> None:
    messages = await shown(messages=[HI, assistant(CALL), user(block)])
    assert messages[-1] == {"role": "tool", "content": text, "tool_call_id": "toolu_1"}


async def test_plain_documents_are_text() -> None:
    source = {"type": "text", "media_type": "text/plain", "data": "Ahoy."}
    plain = {"type": "document", "source": source, "title": "Log", "context": "Day 1"}
    nested = {"type": "document", "source": {"type": "content", "content": [TEXT]}}
    assert await shown(messages=[user(plain, nested)]) == [
        {"role": "user", "content": "Log\nDay 1\nAhoy.\nLook."}
    ]


@pytest.mark.parametrize(
    ("messages", "is_continued"),
    [
        ([HI], False),
        ([HI, assistant(TEXT)], True),
        ([HI, assistant(TEXT, CALL)], False),
        ([HI, {"role": "assistant", "content": ""}], True),
    ],
)
async def test_a_last_message_of_the_assistant_is_continued(
    messages: list[dict[str, Any]], is_continued: bool
) -> None:
    prompt = (await asked(messages=messages)).prompt
    assert isinstance(prompt, ChatPrompt)
    assert prompt.continue_final_message is is_continued


PNG = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
PDF = {"type": "base64", "media_type": "application/pdf", "data": "AAAA"}


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (
            {"type": "image", "source": PNG},
            "Invalid 'messages[0].content[0].type': Content blocks of type 'image' are not "
            "supported yet.",
        ),
        (
            result([{"type": "image", "source": PNG}]),
            "Invalid 'messages[0].content[0].content[0].type': Content blocks of type 'image' are "
            "not supported yet.",
        ),
        (
            {"type": "document", "source": PDF},
            "Invalid 'messages[0].content[0].source.type': Documents whose source is 'base64' are "
            "not supported yet; only plain text is.",
        ),
        (
            {
                "type": "document",
                "source": {"type": "text", "data": "A"},
                "citations": {"enabled": True},
            },
            "Invalid 'messages[0].content[0].citations.enabled': It is not supported yet: leave it "
            "out or send false.",
        ),
        (
            CALL,
            "Invalid 'messages[0].content': Blocks of type 'tool_use' belong into messages of the "
            "assistant.",
        ),
        (
            {"type": "tool_result"},
            "Missing required parameter: 'messages[0].content[0].tool_use_id'.",
        ),
        (
            "Hi",
            "Invalid 'messages[0].content[0]': It must be a content block: an object with a "
            "'type'.",
        ),
    ],
)
async def test_what_cannot_be_shown_is_refused_by_name(block: Any, message: str) -> None:
    assert await refused(messages=[user(block)]) == message


async def test_without_messages_there_is_nothing_to_do() -> None:
    message = await refused(messages=[{"role": "system", "content": ""}])
    assert message == "There is nothing to respond to: the messages are empty."
    assert "messages" in await refused(messages=[])

"""Which template shows a conversation, with functions or without, and how."""

from __future__ import annotations

import datetime
import json
import logging
from typing import Any

import pytest

from appliance.errors import BadRequest, BadSettings, TemplateFailed
from appliance.protocol.requests import ChatPrompt
from appliance.text.channel_formats import Harmony
from appliance.text.chats.generic_tools import GENERIC_CALLS
from appliance.text.chats.model_chat import RenderedChat, ToolUse
from appliance.text.chats.model_chats import ModelChats, TemplateSources
from appliance.text.marked_format import MarkedFormat
from tests.text.template_sources import source_of

BARE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
SHOWING = "{{ tools | tojson }}" + BARE + "{# <tool_call> #}"
LOOK = {
    "type": "function",
    "function": {"name": "look", "description": "", "parameters": {"type": "object"}},
}
HELLO: dict[str, Any] = {"role": "user", "content": "Hello"}
CALLED: list[dict[str, Any]] = [
    HELLO,
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "call00001", "type": "function", "function": {"name": "look", "arguments": "{}"}}
        ],
    },
    {"role": "tool", "content": "seen", "tool_call_id": "call00001"},
]
GENERIC_HISTORY = (
    '<tool_call>\n{"name": "look", "arguments": {}}\n</tool_call>',
    "<tool_response>\nseen\n</tool_response>",
)


def chats(
    default: str = "", tool_use: str = "", tools: str = "auto", *, is_given: bool = False
) -> ModelChats:
    return ModelChats(
        TemplateSources(default=default, tool_use=tool_use, is_given=is_given),
        special={"bos_token": "<s>", "eos_token": "</s>"},
        tools=tools,
        now=lambda: datetime.datetime(2026, 11, 29, 12, 5, 9),  # noqa: DTZ001 - as local
    )


def rendered(
    of: ModelChats, messages: list[dict[str, Any]] | None = None, *, tools: bool = False
) -> RenderedChat:
    prompt = ChatPrompt(messages=messages or [HELLO], tools=[LOOK] if tools else None)
    return of.of(prompt).render(prompt)


@pytest.mark.parametrize(
    ("source", "tools", "tool_use"),
    [
        (BARE, "auto", ToolUse.GENERIC),
        (BARE, "generic", ToolUse.GENERIC),
        (BARE, "native", ToolUse.NONE),
        (SHOWING, "auto", ToolUse.NATIVE),
        (SHOWING, "native", ToolUse.NATIVE),
        (SHOWING, "generic", ToolUse.GENERIC),
        ("{{ tools }}<|channel|>analysis" + BARE, "generic", ToolUse.NATIVE),
        ("<|channel|>analysis" + BARE, "auto", ToolUse.NONE),
        ("", "auto", ToolUse.NONE),
    ],
)
def test_how_functions_are_shown(source: str, tools: str, tool_use: ToolUse) -> None:
    assert chats(source, tools=tools).tool_use is tool_use


def test_the_generic_form_is_in_the_messages_and_kept_to() -> None:
    chat = rendered(chats(BARE), CALLED, tools=True)
    assert chat.text.startswith("<system>You are a helpful assistant.\n\nYou can call functions")
    assert chat.text.endswith(f"<user>Hello<assistant>{'<user>'.join(GENERIC_HISTORY)}")
    assert chat.keeps_calls
    assert isinstance(chat.form, MarkedFormat)
    assert chat.form.calls == (GENERIC_CALLS,)


def test_history_is_told_where_no_functions_are_left_and_a_plain_chat_is_as_it_was() -> None:
    generic = chats(BARE)
    chat = rendered(generic, CALLED)
    assert chat.text == f"<user>Hello<assistant>{'<user>'.join(GENERIC_HISTORY)}"
    assert not chat.keeps_calls
    assert rendered(generic).text == "<user>Hello"


def test_a_template_that_takes_no_system_message_shows_functions_to_the_user() -> None:
    picky = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}" + BARE
    text = rendered(chats(picky), tools=True).text
    assert text.startswith("<user>You are a helpful assistant.\n\nYou can call functions")
    assert text.endswith("</tool_response>.\n\nHello")


def test_native_templates_show_them_and_nothing_is_kept_to() -> None:
    chat = rendered(chats(SHOWING), tools=True)
    assert chat.text.startswith('[{"type": "function"')
    assert not chat.keeps_calls


def test_native_alone_refuses() -> None:
    with pytest.raises(BadRequest, match="does not support functions") as refused:
        rendered(chats(BARE, tools="native"), tools=True)
    assert refused.value.param == "tools"


def test_other_names_of_functions() -> None:
    named = rendered(chats("{{ xml_tools[0].function.name }}" + BARE), tools=True)
    assert named.text == "look<user>Hello"
    as_text = chats("{{ functions }}|{{ datetime }}|" + BARE)
    shown = rendered(as_text, tools=True).text
    assert shown == json.dumps([LOOK["function"]], indent=4) + "|2026-11-29 12:05:09|<user>Hello"
    assert rendered(as_text).text == "|2026-11-29 12:05:09|<user>Hello"


def test_a_template_for_functions_shows_conversations_with_them() -> None:
    both = chats(BARE, "T" + SHOWING)
    assert rendered(both).text == "<user>Hello"
    assert rendered(both, tools=True).text.startswith('T[{"type": "function"')
    assert both.tool_use is ToolUse.NATIVE


def test_a_template_for_functions_alone_shows_all_conversations() -> None:
    alone = chats(tool_use="T" + SHOWING)
    assert alone.has_template
    assert rendered(alone).text == "Tnull<user>Hello"
    assert rendered(alone, tools=True).text.startswith("T[{")


def test_a_broken_template_for_functions_leaves_the_usual_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        broken = chats(BARE, "{% for %}")
        assert broken.tool_use is ToolUse.GENERIC
        assert rendered(broken, tools=True).keeps_calls
    assert "a chat template cannot be used" in caplog.text


def test_no_template_says_what_to_do() -> None:
    with pytest.raises(TemplateFailed, match="--chat-template chatml") as refused:
        rendered(chats())
    assert refused.value.status == 400
    with pytest.raises(TemplateFailed, match=r"not valid Jinja.* --chat-template"):
        rendered(chats("{% for %}"))


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("{% for %}", "not valid Jinja"),
        ("{{ raise_exception('Never.') }}", "message of the user cannot be shown.*Never"),
        ("Hi.", "does not show the messages"),
    ],
)
def test_a_template_that_was_set_must_work(source: str, says: str) -> None:
    with pytest.raises(BadSettings, match=f"--chat-template cannot be used.*{says}"):
        chats(source, is_given=True)


@pytest.mark.parametrize("arguments", ["[1]", "{broken"])
def test_arguments_that_cannot_be_written_are_refused(arguments: str) -> None:
    leaving_out = "{{ tools }}" + BARE + "{# <|tool_call_start|> #}"
    function = {"name": "look", "arguments": arguments}
    messages = [HELLO, {**CALLED[1], "tool_calls": [{"id": "a", "function": function}]}]
    with pytest.raises(BadRequest, match="cannot show these messages") as refused:
        rendered(chats(leaving_out), messages, tools=True)
    assert refused.value.param == "messages"


def test_well_known_models() -> None:
    """Templates that show calls and no functions: the model's own calls, or generic ones."""
    deepseek = rendered(chats(source_of("deepseek-ai-DeepSeek-V3.1.jinja")), CALLED, tools=True)
    assert "### look\nDescription: " in deepseek.text
    assert "<｜tool▁call▁begin｜>look<｜tool▁sep｜>{}<｜tool▁call▁end｜>" in deepseek.text
    assert deepseek.keeps_calls
    lfm = rendered(chats(source_of("LFM2-8B-A1B.jinja")), CALLED, tools=True)
    assert "<|im_start|>assistant\n<|tool_call_start|>[look()]<|tool_call_end|>" in lfm.text
    granite_source = source_of("ibm-granite-granite-3.3-2B-Instruct.jinja")
    granite = rendered(chats(granite_source), CALLED, tools=True)
    assert '<|tool_call|>[{"name": "look", "arguments": {}}]<|end_of_text|>' in granite.text
    gemma = rendered(chats(source_of("google-gemma-2-2b-it.jinja")), CALLED, tools=True)
    assert gemma.text.endswith(
        "Hello<end_of_turn>\n<start_of_turn>model\n"
        f"{GENERIC_HISTORY[0]}<end_of_turn>\n<start_of_turn>user\n{GENERIC_HISTORY[1]}"
        "<end_of_turn>\n<start_of_turn>model\n"
    )
    phi = rendered(chats(source_of("microsoft-Phi-3.5-mini-instruct.jinja")), CALLED, tools=True)
    assert phi.text.startswith("<|system|>\nYou are a helpful assistant.\n\nYou can call functions")
    firefunction = source_of("fireworks-ai-llama-3-firefunction-v2.jinja")
    fire = rendered(chats(firefunction), CALLED, tools=True)
    assert '"name": "look",' in fire.text
    assert "Today is 2026-11-29 12:05:09." in fire.text
    assert ' functools[{"name": "look", "arguments": {}}]' in fire.text
    assert not fire.keeps_calls
    assert isinstance(rendered(chats(source_of("openai-gpt-oss-120b.jinja"))).form, Harmony)

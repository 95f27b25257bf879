"""Chat templates of well-known models,
and some of our own, render as transformers renders them.

What breaks in transformers renders as in llama.cpp; what breaks in both (`broken`) is
left open here. The hashes were made by `make_template_goldens.py`. Templates of other
people's models stay outside of the repository.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from appliance.errors import TemplateFailed
from appliance.text.chat_template import ChatTemplate
from tests.text.conversations import CONVERSATIONS, NOW, SPECIAL, Conversation
from tests.text.template_sources import source_of

GOLDENS: dict[str, dict[str, str]] = json.loads(
    Path(__file__).with_name("template_goldens.json").read_text(encoding="utf-8")
)
MANY = 40  # templates of well-known models, at least


def digest(template: ChatTemplate, conversation: Conversation) -> str:
    try:
        text = template.render(
            conversation.messages,
            tools=conversation.tools,
            arguments=conversation.arguments,
            continue_final_message=conversation.continue_final_message,
        )
    except TemplateFailed:
        return "error"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@pytest.mark.parametrize("name", GOLDENS)
def test_it_renders_as_transformers_does(name: str) -> None:
    template = ChatTemplate(source_of(name), special=SPECIAL, now=lambda: NOW)
    rendered = {
        name: digest(template, conversation) for name, conversation in CONVERSATIONS.items()
    }
    known = {
        conversation: rendered[conversation] if golden == "broken" else golden
        for conversation, golden in GOLDENS[name].items()
    }
    assert rendered == known


def test_they_are_many_and_every_conversation_counts() -> None:
    assert len(GOLDENS) >= MANY
    for name in CONVERSATIONS:
        distinct = {by_name[name] for by_name in GOLDENS.values()} - {"error", "broken"}
        assert len(distinct) > MANY // 2, name

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
from tests.conftest import SHARED
from tests.text.conversations import CONVERSATIONS, NOW, SPECIAL, Conversation

HERE = Path(__file__).parent
GOLDENS: dict[str, dict[str, str]] = json.loads(
    (HERE / "template_goldens.json").read_text(encoding="utf-8")
)
MANY = 40  # templates of well-known models, at least


def source_of(name: str) -> str:
    for folder in (HERE / "templates", SHARED / "data" / "templates"):
        if (folder / name).exists():
            return (folder / name).read_text(encoding="utf-8")
    pytest.skip(f"needs {name} in ../shared/data/templates, which is not here")


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

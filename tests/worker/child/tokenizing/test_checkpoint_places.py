"""Where a chat is saved for its next turn, and for others: told of templates, against what
these really make of the next turn.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

from appliance.protocol.requests import ChatPrompt, TextPrompt
from appliance.text.chat_template import ChatTemplate
from appliance.worker.child.tokenizing.checkpoint_places import (
    CheckpointPlaces,
    text_before_answers,
)
from tests.text.conversations import NOW, SPECIAL
from tests.text.template_sources import source_of

SYSTEM = {"role": "system", "content": "You are a careful helper. " * 5}
ASKED = {"role": "user", "content": "What is the sea made of, in the end?"}
OTHER = {"role": "user", "content": "Quite another question"}
ANSWER = {
    "role": "assistant",
    "content": "Of water and salt, and of much else.",
    "reasoning_content": "They want it short.",
}
# Of models with states or windows, and of some that leave out earlier reasoning.
PUBLISHED = (
    "deepseek-ai-DeepSeek-V4",
    "LFM2.5-Instruct",
    "MiniMax-M3",
    "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",
    "Qwen3.5-4B",
    "google-gemma-4-31B-it",
    "ibm-granite-granite-4.0",
    "llama-cpp-rwkv-world",
    "openai-gpt-oss-120b",
    "poolside-Laguna-XS.2",
)
CHATML = """{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
<think>
{% endif %}"""


def template_of(source: str) -> ChatTemplate:
    return ChatTemplate(source, special=SPECIAL, now=lambda: NOW)


def as_tokens(text: str) -> list[int]:
    return [ord(character) for character in text]


def places_in(template: ChatTemplate, messages: list[dict[str, Any]]) -> dict[int, bool]:
    text = template.render(messages)
    places = CheckpointPlaces(text_before_answers(template), as_tokens)
    return places.of(ChatPrompt(messages=messages), text, as_tokens(text))


def test_reasoning_that_later_turns_leave_out_is_behind_the_place() -> None:
    template = template_of(CHATML)
    asked = template.render([SYSTEM, ASKED])
    later = template.render([SYSTEM, ASKED, {**ANSWER, "reasoning_content": None}, OTHER])
    place = len(os.path.commonprefix([asked, later]))  # noqa: RUF071 - texts
    assert asked[place:] == "<think>\n"
    assert places_in(template, [SYSTEM, ASKED]) == {
        asked.index(ASKED["content"]): True,
        place: False,
    }


def test_a_short_beginning_is_no_branch() -> None:
    template = template_of(CHATML)
    assert list(places_in(template, [ASKED]).values()) == [False]


def test_what_is_no_chat_has_none() -> None:
    places = CheckpointPlaces("", as_tokens)
    assert places.of(TextPrompt(text="Once"), "Once", as_tokens("Once")) == {}


def test_the_last_token_is_always_computed() -> None:
    """As of a template that the probes were refused by."""
    places = CheckpointPlaces("", as_tokens)
    text = "Tell me: Once"
    prompt = ChatPrompt(messages=[{"role": "user", "content": "Once"}])
    assert places.of(prompt, text, as_tokens(text)) == {len(text) - 1: False}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_templates(name: str) -> None:
    template = template_of(source_of(f"{name}.jinja"))
    first = [SYSTEM, ASKED]
    asked, later = template.render(first), template.render([*first, ANSWER, OTHER])
    most = len(os.path.commonprefix([asked, later]))  # noqa: RUF071 - texts
    [place] = [at for at, is_branch in places_in(template, first).items() if not is_branch]
    assert most - 10 < place <= most
    common = os.path.commonprefix([asked, template.render([SYSTEM, OTHER])])  # noqa: RUF071
    assert places_in(template, first)[len(common)]

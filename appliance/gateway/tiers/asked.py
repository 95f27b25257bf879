"""What of a request is read to tell how hard it is: its question, and figures.

Pure: knows no points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from appliance.protocol.requests import (
    ChatPrompt,
    GenerateRequest,
    InfillPrompt,
    MixedPrompt,
    TextPrompt,
    TokenPrompt,
)

_CHARS_PER_TOKEN = 4  # of English prose; only a measure of length here
# Of a long text, that are looked at of its beginning and of its end: there stands what is asked.
# A hundred thousand would hold up the event loop for tens of milliseconds.
_MAX_CHARS = 1024


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Of one request."""

    text: str  # its question: of a conversation, the user's last two, for one leans on the other
    num_tokens: int  # of the whole prompt, as estimated by its characters
    num_turns: int = 1  # of the user in a conversation
    num_tools: int = 0
    effort: str | None = None  # of reasoning, as it is asked for by name


def asked_of(request: GenerateRequest) -> Asked:
    """Never fails: what cannot be read is left out."""
    prompt = request.prompt
    if isinstance(prompt, ChatPrompt):
        return _of_chat(prompt)
    if isinstance(prompt, TextPrompt):
        return _of_text(prompt.text, len(prompt.text))
    if isinstance(prompt, TokenPrompt):
        return Asked(text="", num_tokens=len(prompt.tokens))
    if isinstance(prompt, MixedPrompt):
        text = "".join(part for part in prompt.parts if isinstance(part, str))
        num_ids = sum(len(part) for part in prompt.parts if not isinstance(part, str))
        return _of_text(text, len(text) + _CHARS_PER_TOKEN * num_ids)
    assert isinstance(prompt, InfillPrompt)
    return _of_text(prompt.prefix + prompt.suffix, prompt.num_chars)


def has_token_ids(request: GenerateRequest) -> bool:
    """Whether it means something else to each model that does not share a vocabulary."""
    prompt = request.prompt
    is_mixed = isinstance(prompt, MixedPrompt) and any(
        not isinstance(part, str) for part in prompt.parts
    )
    return isinstance(prompt, TokenPrompt) or is_mixed or bool(request.sampling.logit_bias)


def _of_text(text: str, num_chars: int) -> Asked:
    return Asked(text=_ends(text), num_tokens=num_chars // _CHARS_PER_TOKEN)


def _of_chat(prompt: ChatPrompt) -> Asked:
    said = [
        text
        for message in prompt.messages
        if message.get("role") == "user" and (text := _text(message))
    ]
    num_chars = sum(len(_text(message)) for message in prompt.messages)
    return Asked(
        text=_ends("\n".join(said[-2:])),
        num_tokens=num_chars // _CHARS_PER_TOKEN,
        num_turns=len(said),
        num_tools=len(prompt.tools or ()),
        effort=prompt.reasoning_effort,
    )


def _ends(text: str) -> str:
    if len(text) <= 2 * _MAX_CHARS:
        return text
    return f"{text[:_MAX_CHARS]}\n{text[-_MAX_CHARS:]}"


def _text(message: Mapping[str, Any]) -> str:
    """Of a message whose content is a text, or parts of which some are."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        return ""
    parts = (part.get("text") for part in content if isinstance(part, Mapping))
    return "\n".join(part for part in parts if isinstance(part, str))

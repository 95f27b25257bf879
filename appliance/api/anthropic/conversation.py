"""A system prompt and messages of blocks, as chat templates read them.

Knows no request and no response.

Source: https://docs.claude.com/en/api/messages: what follows each other from the same
role is one turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from pydantic import field_validator
from pydantic_core import PydanticCustomError
from pydantic_core.core_schema import ValidationInfo

from appliance.api.anthropic.blocks import (
    Block,
    Blocks,
    DocumentBlock,
    SearchResultBlock,
    SpokenBlock,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
)
from appliance.api.anthropic.claude_code import without_billing
from appliance.api.fields.request import LabelledModel

# Blocks that only one role may have
_ROLES = {
    "tool_result": "user",
    "tool_use": "assistant",
    "thinking": "assistant",
    "redacted_thinking": "assistant",
}


class Turn(LabelledModel):
    """`system` may also stand between the others, as in newer requests."""

    role: Literal["user", "assistant", "system"]
    content: Blocks

    @field_validator("content")
    @classmethod
    def _of_its_role(cls, blocks: list[Block], info: ValidationInfo) -> list[Block]:
        role = info.data.get("role")
        for block in blocks:
            owner = _ROLES.get(block.type)
            if role is not None and owner is not None and owner != role:
                raise PydanticCustomError(
                    "invalid_value",
                    "Blocks of type '{kind}' belong into messages of the {owner}.",
                    {"kind": block.type, "owner": owner},
                )
        return blocks


def messages_of(system: Sequence[TextBlock], turns: Sequence[Turn]) -> list[dict[str, Any]]:
    """Results come before what the user says beside them, right behind their calls."""
    messages: list[dict[str, Any]] = []
    _instruct(messages, system)
    for turn in turns:
        spoken = [block for block in turn.content if isinstance(block, SpokenBlock)]
        if turn.role == "system":
            _instruct(messages, spoken)
        elif turn.role == "assistant":
            _add_to_answer(messages, turn.content)
        else:
            results = [block for block in turn.content if isinstance(block, ToolResultBlock)]
            messages += [
                {"role": "tool", "content": result.text, "tool_call_id": result.tool_use_id}
                for result in results
            ]
            if spoken or not results:
                _say(messages, "user", "\n".join(block.text for block in spoken))
    return messages


def continues_last(messages: Sequence[dict[str, Any]]) -> bool:
    """A last message of the assistant is continued, unless it ends with calls."""
    return messages[-1]["role"] == "assistant" and "tool_calls" not in messages[-1]


def _instruct(messages: list[dict[str, Any]], blocks: Iterable[SpokenBlock]) -> None:
    texts = [without_billing(block.text) for block in blocks]
    if instructions := "\n".join(text for text in texts if text):
        _say(messages, "system", instructions)


def _say(messages: list[dict[str, Any]], role: str, text: str) -> None:
    if messages and messages[-1]["role"] == role:
        messages[-1]["content"] += "\n" + text
    else:
        messages.append({"role": role, "content": text})


def _add_to_answer(messages: list[dict[str, Any]], blocks: Sequence[Block]) -> None:
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": None})
    answer = messages[-1]
    for block in blocks:
        if isinstance(block, ToolUseBlock):
            answer.setdefault("tool_calls", []).append(block.for_template())
        elif isinstance(block, ThinkingBlock):
            _append(answer, "reasoning_content", block.thinking)
        elif isinstance(block, TextBlock | DocumentBlock | SearchResultBlock):
            _append(answer, "content", block.text)
    if answer["content"] is None and "tool_calls" not in answer:
        answer["content"] = ""


def _append(answer: dict[str, Any], field: str, text: str) -> None:
    before = answer.get(field)
    answer[field] = f"{before}\n{text}" if before else text

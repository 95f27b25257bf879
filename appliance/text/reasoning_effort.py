"""How much a model is asked to reason, in the words that its chat template reads.

Knows no way of writing answers.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Any

from appliance.errors import BadRequest

NO_EFFORT = "none"
_SWITCHES = ("enable_thinking", "thinking")  # true or false
_LEVEL = "reasoning_effort"  # OpenAI's own words


def effort_arguments(
    effort: str | None, variables: Set[str], *, can_reason: bool
) -> dict[str, Any]:
    """Arguments for a template that reads `variables`;
    `effort` is OpenAI's `reasoning_effort`.

    Raises `BadRequest` where the model cannot do as it is asked: an effort that changes
    nothing would be a pretence.
    """
    if effort is None:
        return {}
    switch = next((name for name in _SWITCHES if name in variables), None)
    has_level = _LEVEL in variables
    if effort == NO_EFFORT:
        if switch is None and (can_reason or has_level):
            raise BadRequest(
                "This model always reasons: its chat template has no switch to turn it off.",
                param="reasoning_effort",
            )
        return {} if switch is None else {switch: False}
    if switch is None and not has_level and not can_reason:
        raise BadRequest(
            "This model does not reason. Leave out the reasoning effort, or send 'none'.",
            param="reasoning_effort",
        )
    return {**({} if switch is None else {switch: True}), **({_LEVEL: effort} if has_level else {})}

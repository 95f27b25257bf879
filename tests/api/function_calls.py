"""Functions, as clients offer them and templates read them,
and a choice that calls them.
"""

from __future__ import annotations

from typing import Any

from appliance.protocol.events import Delta, Finished, FinishReason, Started, ToolCallPart, Usage

LOOK: dict[str, Any] = {
    "type": "function",
    "function": {"name": "look", "parameters": {"type": "object"}},
}
NOTE: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "note",
        "description": "Writes.",
        "parameters": {"properties": {}},
        "strict": True,
    },
}
SHOWN_LOOK = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "",
        "parameters": {"type": "object", "properties": {}},
    },
}
CALLS = (
    Started(1, 5),
    Delta(request_id=1, text="", num_tokens=2, reasoning="Hm"),
    Delta(request_id=1, text="Ok", num_tokens=1),
    Delta(request_id=1, text="", num_tokens=1, tool_call=ToolCallPart(0, "", "call_1", "look")),
    Delta(request_id=1, text="", num_tokens=1, tool_call=ToolCallPart(0, '{"a": ')),
    Delta(request_id=1, text="", num_tokens=1, tool_call=ToolCallPart(0, "1}")),
    Delta(request_id=1, text="", num_tokens=1, tool_call=ToolCallPart(1, "", "call_2", "note")),
    Delta(request_id=1, text="", num_tokens=1, tool_call=ToolCallPart(1, "{}")),
    Finished(
        request_id=1,
        reason=FinishReason.STOP,
        usage=Usage(
            num_prompt_tokens=5,
            num_cached_tokens=2,
            num_completion_tokens=9,
            num_reasoning_tokens=3,
        ),
        has_tool_calls=True,
    ),
)

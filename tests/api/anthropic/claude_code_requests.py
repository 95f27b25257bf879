"""Requests in Claude Code's shapes, shortened: as its users report them for other servers,
such as https://github.com/anthropics/claude-code/issues/68900.

Knows no server.
"""

from __future__ import annotations

from typing import Any

CLI = {
    "user-agent": "claude-cli/2.1.177 (external, cli)",
    "x-app": "cli",
    "anthropic-version": "2023-06-01",
    "anthropic-beta": "claude-code-20250219,interleaved-thinking-2025-05-14",
    "anthropic-dangerous-direct-browser-access": "true",
}
_CACHED = {"cache_control": {"type": "ephemeral"}}
_CHECKSUMS = ("36ee5", "0aaa9")
_METADATA = {"user_id": "user_0a1b_account__session_2c3d"}
_READ = {
    "name": "Read",
    "description": "Reads a file.",
    "input_schema": {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {"file_path": {"type": "string", "description": "The path."}},
        "required": ["file_path"],
        "additionalProperties": False,
    },
}


def turn(number: int, model: str = "novels") -> dict[str, Any]:
    """Of a conversation, the first request or the second."""
    checksum = _CHECKSUMS[number - 1]
    asked = [
        {"type": "text", "text": "<system-reminder>\nToday is Sunday.\n</system-reminder>\n"},
        {"type": "text", "text": "What is in notes.txt?"},
    ]
    messages: list[dict[str, Any]] = [{"role": "user", "content": asked}]
    if number == 1:
        asked[-1] |= _CACHED  # it moves on with the conversation
    else:
        call = {
            "type": "tool_use",
            "id": "toolu_01",
            "name": "Read",
            "input": {"file_path": "notes.txt"},
        }
        result = {
            "type": "tool_result",
            "tool_use_id": "toolu_01",
            "content": "1\tA gull.",
            **_CACHED,
        }
        messages += [
            {"role": "assistant", "content": [call]},
            {"role": "user", "content": [result]},
        ]
        messages += [{"role": "user", "content": [{"type": "text", "text": "Go on."}]}]
    return {
        "model": model,
        "max_tokens": 32000,
        "stream": False,
        "temperature": 1,
        "metadata": _METADATA,
        "thinking": {"type": "adaptive"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "output_config": {"effort": "medium"},
        "system": [
            {
                "type": "text",
                "text": f"x-anthropic-billing-header: cc_version=2.1.177.01c; "
                f"cc_entrypoint=cli; cch={checksum};",
            },
            {"type": "text", "text": "You are Claude Code, Anthropic's official CLI.", **_CACHED},
            {"type": "text", "text": "You help with the work on a computer.", **_CACHED},
        ],
        "tools": [_READ],
        "messages": messages,
    }


def probe(text: str) -> dict[str, Any]:
    """What it sends to learn whether it may ask, or how many tokens its tools have."""
    return {
        "model": "novels",
        "max_tokens": 1,
        "messages": [{"role": "user", "content": text}],
        "metadata": _METADATA,
    }

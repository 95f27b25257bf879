"""The fields of /v1/messages become those of the one internal request."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.protocol.grammar_kind import GrammarKind
from appliance.protocol.requests import ChatPrompt, Grammar, ToolCallRules
from appliance.protocol.sampling import SamplingParams
from tests.api.anthropic.talk import asked, refused
from tests.api.function_calls import SHOWN_LOOK

LOOK: dict[str, Any] = {"name": "look", "input_schema": {"type": "object"}}
NOTE: dict[str, Any] = {"type": "custom", "name": "note", "strict": True, "defer_loading": True}
OFF = {"enable_thinking": False, "thinking": False}
ON = {"enable_thinking": True, "thinking": True}


async def test_sampling_and_its_end() -> None:
    request = await asked(
        temperature=0.5, top_p=0.9, top_k=7, stop_sequences=["\n\nHuman:", ""], seed=3
    )
    assert request.sampling == SamplingParams(temperature=0.5, top_p=0.9, top_k=7, seed=3)
    assert (request.stop, request.max_tokens) == (["\n\nHuman:"], 9)


@pytest.mark.parametrize(
    ("sent", "most"), [(None, None), (-1, None), (0, 0), (1, 1), (64000.0, 64000)]
)
async def test_max_tokens(sent: Any, most: int | None) -> None:
    assert (await asked(max_tokens=sent)).max_tokens == most


async def test_hints_are_taken() -> None:
    plain = await asked()
    hinted = await asked(
        metadata={"user_id": "user_1_session_2"},
        service_tier="auto",
        cache_control={"type": "ephemeral"},
        context_management={"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        inference_geo="eu",
        container=None,
        mcp_servers=[],
        speed="fast",
        diagnostics={"previous_message_id": "msg_1"},
        output_config={"task_budget": {"type": "tokens", "total": 9}},
    )
    assert hinted == plain


@pytest.mark.parametrize(
    ("choice", "rules", "is_shown"),
    [
        (None, ToolCallRules(), True),
        ({"type": "auto"}, ToolCallRules(), True),
        ("auto", ToolCallRules(), True),
        ({"type": "auto", "disable_parallel_tool_use": True}, ToolCallRules(several=False), True),
        ({"type": "any"}, ToolCallRules(is_required=True), True),
        ("required", ToolCallRules(is_required=True), True),
        (
            {"type": "tool", "name": "look"},
            ToolCallRules(is_required=True, only="look", several=False),
            True,
        ),
        ({"type": "none"}, ToolCallRules(), False),
    ],
)
async def test_tool_choice(choice: Any, rules: ToolCallRules, is_shown: bool) -> None:
    request = await asked(tools=[LOOK], tool_choice=choice)
    assert request.tool_calls == rules
    assert isinstance(request.prompt, ChatPrompt)
    assert request.prompt.tools == ([SHOWN_LOOK] if is_shown else None)


async def test_tools_may_be_strict() -> None:
    request = await asked(tools=[LOOK, NOTE])
    assert request.tool_calls == ToolCallRules(is_strict=True, strict_names=["note"])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
            "Invalid 'tools[0].type': Tools of type 'web_search_20250305' are not supported; only "
            "'custom' ones are, with an 'input_schema', whose calls the client runs itself.",
        ),
        (
            {"tools": [LOOK], "tool_choice": {"type": "tool"}},
            "Missing required parameter: 'tool_choice.name'. It names the tool to be called.",
        ),
        (
            {"tools": [LOOK], "tool_choice": {"type": "tool", "name": "note"}},
            "'tools' has no function named 'note'.",
        ),
        (
            {"tool_choice": {"type": "any"}},
            "A tool call is required, but there are no functions: send 'tools'.",
        ),
        (
            {"mcp_servers": [{"type": "url", "url": "https://example.com", "name": "a"}]},
            "Invalid 'mcp_servers': It is not supported yet: leave it out or send [].",
        ),
        ({"temperature": 3}, "Invalid 'temperature': Input should be less than or equal to 2."),
        ({"messages": None}, "Missing required parameter: 'messages'."),
        (
            {"ignore_eos": True, "output_format": {"type": "json_schema", "schema": {}}},
            "'ignore_eos' cannot be combined with a structured format, which decides where the "
            "response ends: leave it out.",
        ),
    ],
)
async def test_what_cannot_be_done_is_refused_by_name(fields: dict[str, Any], message: str) -> None:
    assert await refused(**fields) == message


@pytest.mark.parametrize(
    ("fields", "arguments", "most"),
    [
        ({}, OFF, None),
        ({"thinking": {"type": "disabled"}}, OFF, None),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, ON, 1024),
        ({"thinking": {"type": "adaptive"}}, {}, None),
        (
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}},
            {"reasoning_effort": "high"},
            None,
        ),
        ({"output_config": {"effort": "low"}}, {**OFF, "reasoning_effort": "low"}, None),
        ({"chat_template_kwargs": {"thinking": True}}, {**OFF, "thinking": True}, None),
    ],
)
async def test_thinking(
    fields: dict[str, Any], arguments: dict[str, Any], most: int | None
) -> None:
    """A template reads what it knows of these; nothing is refused that it does not know."""
    request = await asked(**fields)
    assert isinstance(request.prompt, ChatPrompt)
    assert request.prompt.arguments == arguments
    assert request.prompt.reasoning_effort is None
    assert request.max_reasoning_tokens == most


@pytest.mark.parametrize(
    ("place", "param"),
    [("output_config", "output_config.format.schema"), ("output_format", "output_format.schema")],
)
async def test_structured_output(place: str, param: str) -> None:
    form = {"type": "json_schema", "schema": {"type": "object"}}
    request = await asked(**{place: {"format": form} if place == "output_config" else form})
    assert request.grammar == Grammar(GrammarKind.JSON_SCHEMA, '{"type":"object"}', param)

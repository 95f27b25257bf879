"""Conversations with calls, as each kind of template takes them."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from appliance.text.call_history import CallHistory
from appliance.text.chat_template import ChatTemplate

SHOW_CALLS = (
    "{% for c in m.tool_calls or [] %}({{ c.function.name }} "
    "{{ c.function.arguments | tojson }}){% endfor %}"
)
SHOW = "{% for m in messages %}{{ m.role[0] }}:{{ m.content }}" + SHOW_CALLS + "|{% endfor %}"
ONE_CALL = (
    "{% for m in messages %}{% if m.tool_calls and m.tool_calls | length > 1 %}"
    "{{ raise_exception('one at a time') }}{% endif %}{% endfor %}" + SHOW
)
NO_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + SHOW
)
ONE_SYSTEM = (
    "{% for m in messages[1:] %}{% if m.role == 'system' %}"
    "{{ raise_exception('only at the beginning') }}{% endif %}{% endfor %}" + SHOW
)
LAST_SYSTEM = (
    "{% set ns = namespace(s='') %}{% for m in messages %}{% if m.role == 'system' %}"
    "{% set ns.s = m.content %}{% endif %}{% endfor %}{{ ns.s }}:"
    + SHOW.replace(
        "{{ m.role[0] }}", "{% if m.role == 'system' %}{% continue %}{% endif %}{{ m.role[0] }}"
    )
)


def said(role: str, content: str | None, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def call(number: int) -> dict[str, Any]:
    function = {"name": f"f{number}", "arguments": f'{{"n": {number}}}'}
    return {"id": f"id{number}", "type": "function", "function": function}


def result(number: int) -> dict[str, Any]:
    return said("tool", f"r{number}", tool_call_id=f"id{number}")


TWO_CALLS = [
    said("user", "Hi"),
    said("assistant", "Well.", tool_calls=[call(1), call(2)]),
    result(2),
    result(1),
    said("user", "So?"),
]


def rendered(source: str, messages: list[dict[str, Any]]) -> str:
    template = ChatTemplate(source, special={}, now=lambda: datetime.datetime(2026, 11, 29))  # noqa: DTZ001 - as local
    return template.render(CallHistory(template).fitted(messages))


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        (SHOW, 'u:Hi|a:Well.(f1 {"n": 1})(f2 {"n": 2})|t:r2|t:r1|u:So?|'),
        (ONE_CALL, 'u:Hi|a:Well.(f1 {"n": 1})|t:r1|a:(f2 {"n": 2})|t:r2|u:So?|'),
    ],
)
def test_calls_at_once_come_one_by_one_where_there_may_be_one(source: str, shown: str) -> None:
    assert rendered(source, TWO_CALLS) == shown


def test_a_result_of_no_call_is_not_lost() -> None:
    stray = [*TWO_CALLS[:3], said("tool", "r9", tool_call_id="id9"), TWO_CALLS[4]]
    assert rendered(ONE_CALL, stray).endswith('a:(f2 {"n": 2})|t:r2|t:r9|u:So?|')


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        (SHOW, "s:A|s:B|u:Hi|a:Yes|s:C|u:So?|"),
        (NO_SYSTEM, "u:A\n\nB\n\nHi|a:Yes|u:C\n\nSo?|"),
        (ONE_SYSTEM, "s:A\n\nB|u:Hi|a:Yes|u:C\n\nSo?|"),
        (LAST_SYSTEM, "C:u:Hi|a:Yes|u:So?|"),  # it takes it, and shows what it likes
    ],
)
def test_system_messages_where_a_template_takes_none(source: str, shown: str) -> None:
    messages = [
        said("system", "A"),
        said("system", "B"),
        said("user", "Hi"),
        said("assistant", "Yes"),
        said("system", "C"),
        said("user", "So?"),
    ]
    assert rendered(source, messages) == shown


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        (SHOW, "s:A|s:B|u:Hi|"),
        (ONE_SYSTEM, "s:A\n\nB|u:Hi|"),
        (LAST_SYSTEM, "A\n\nB:u:Hi|"),
        (NO_SYSTEM, "u:A\n\nB\n\nHi|"),
    ],
)
def test_two_system_messages_are_one_where_there_may_be_one(source: str, shown: str) -> None:
    assert rendered(source, [said("system", "A"), said("system", "B"), said("user", "Hi")]) == shown


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        (SHOW, "s:A|u:Hi|s:B|"),
        (ONE_SYSTEM, "s:A|u:Hi\n\nB|"),
        (NO_SYSTEM, "u:A\n\nHi\n\nB|"),
    ],
)
def test_a_later_system_message_stays_where_it_was(source: str, shown: str) -> None:
    messages = [said("system", "A"), said("user", "Hi"), said("system", "B")]
    assert rendered(source, messages) == shown
    answered = [*messages, said("assistant", "Yes"), said("user", "So?")]
    assert rendered(source, answered) == shown + "a:Yes|u:So?|"


def test_a_conversation_of_a_system_message_alone() -> None:
    assert rendered(NO_SYSTEM, [said("system", "A")]) == "u:A|"


def test_what_a_template_shows() -> None:
    def history(source: str) -> CallHistory:
        return CallHistory(
            ChatTemplate(source, special={}, now=lambda: datetime.datetime(2026, 11, 29))  # noqa: DTZ001 - as local
        )

    assert history("{{ tools | tojson }}" + SHOW).shows_tools
    assert not history("{{ 'tools' if tools }}" + SHOW).shows_tools
    assert history(SHOW).shows_calls
    assert not history(SHOW.replace(SHOW_CALLS, "")).shows_calls

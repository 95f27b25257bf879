"""Forms of answers: what a grammar, a schema or a function says, in every vocabulary."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.vocabularies.served import Served

pytestmark = pytest.mark.asyncio(loop_scope="session")

SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"enum": ["Rome", " Oslo", "Zürich"]},
        "count": {"const": 12},
        "is ok": {"type": "boolean"},
    },
    "required": ["city", "count", "is ok"],
    "additionalProperties": False,
}
LOOK = {"type": "function", "function": {"name": "look_up", "parameters": SCHEMA}}
STRICT = {"type": "function", "function": {**LOOK["function"], "strict": True}}
# As many tokens as the longest of these takes where each byte is one.
LONG = {"max_tokens": 300, "temperature": 1.5}

FORMS: dict[str, tuple[dict[str, Any], str]] = {
    "regex": ({"structured_outputs": {"regex": r"yes( and no){2}é?"}}, r"yes( and no){2}é?"),
    "regex led by a blank": ({"structured_outputs": {"regex": " the[ab]{1,9}c"}}, " the[ab]{1,9}c"),
    "regex of blanks": ({"structured_outputs": {"regex": " {2,5}!"}}, " {2,5}!"),
    "multi-byte": ({"structured_outputs": {"regex": "日本[éü日]{3}"}}, "日本[éü日]{3}"),
    "choice": (
        {"structured_outputs": {"choice": ["one", " two", "three  four"]}},
        "one| two|three  four",
    ),
    "lark": ({"grammar": '%llguidance {}\nstart: "answer: " /[0-9]{3}/'}, "answer: [0-9]{3}"),
    "gbnf": ({"grammar": 'root ::= "say " ("ja" | "né")\n'}, "say (ja|né)"),
}
TEXT_OF_A_MARK = {"structured_outputs": {"choice": ["<user></s><bot>"]}}


@pytest.mark.parametrize("form", FORMS)
async def test_an_answer_is_of_the_form(served: Served, form: str) -> None:
    fields, pattern = FORMS[form]
    if not served.has_end:
        await _assert_refused(served, fields)
        return
    for seed in range(3):
        done = await served.complete("the answer is", seed=seed, **fields, **LONG)
        assert re.fullmatch(pattern, done["text"])
        assert done["finish_reason"] == "stop"
        said = await served.chat(("user", "the"), seed=seed, **fields, **LONG)
        assert re.fullmatch(pattern, said["message"]["content"])


async def test_a_schema_is_kept_to(served: Served) -> None:
    schema = {"name": "place", "schema": SCHEMA}
    fields = {"response_format": {"type": "json_schema", "json_schema": schema}}
    if not served.has_end:
        await _assert_refused(served, fields)
        return
    for seed in range(3):
        said = await served.chat(("user", "the"), seed=seed, **fields, **LONG)
        _assert_place(said["message"]["content"])


@pytest.mark.parametrize("tools", [[LOOK], [STRICT]], ids=["required", "strict"])
async def test_a_function_is_called_as_it_says(served: Served, tools: list[Any]) -> None:
    fields: dict[str, Any] = {
        "tools": tools,
        "tool_choice": "required",
        "parallel_tool_calls": False,
    }
    if not served.has_end:
        await _assert_refused(served, fields)
        return
    for seed in range(3):
        said = await served.chat(("user", "the"), seed=seed, **fields, **LONG)
        calls = said["message"]["tool_calls"]
        assert said["finish_reason"] == "tool_calls"
        assert {call["function"]["name"] for call in calls} == {"look_up"}
        for call in calls:
            _assert_place(call["function"]["arguments"])


async def test_a_mark_in_a_form_is_text(served: Served) -> None:
    """Written in other tokens: a special one would not be in the answer."""
    if not served.has_end:
        await _assert_refused(served, TEXT_OF_A_MARK)
        return
    said = await served.chat(("user", "the"), **TEXT_OF_A_MARK, **LONG)
    assert said["message"]["content"] == "<user></s><bot>"


async def test_a_form_that_the_vocabulary_cannot_write(served: Served) -> None:
    fields = {"structured_outputs": {"choice": ["a😀"]}}
    if served.has_bytes and served.has_end:
        assert (await served.complete(**fields, **LONG))["text"] == "a😀"
    else:
        await _assert_refused(served, fields)


async def _assert_refused(served: Served, fields: dict[str, Any]) -> None:
    path = "/v1/chat/completions"
    words = await served.refusal(
        path, messages=[{"role": "user", "content": "the"}], **fields, **LONG
    )
    if not served.has_end:
        assert "vocabulary has no token that ends an answer" in words


def _assert_place(text: str) -> None:
    place = json.loads(text)
    assert set(place) == {"city", "count", "is ok"}
    assert place["city"] in ("Rome", " Oslo", "Zürich")
    assert place["count"] == 12
    assert isinstance(place["is ok"], bool)

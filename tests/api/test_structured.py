"""The many names of structured output become one grammar; two of them, or an endless
answer, are refused.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from appliance.errors import BadRequest, ConstraintFailed
from appliance.protocol.events import Delta, Started
from appliance.protocol.grammar_kind import GrammarKind
from appliance.protocol.requests import Grammar
from tests.api.scripted_client import ANSWER, ScriptedClient, http_around

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}]}
TEXT: dict[str, Any] = {"prompt": "Once"}
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"né": {"type": "integer"}}}
AS_TEXT = json.dumps(SCHEMA, ensure_ascii=False, separators=(",", ":"))


def named(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "a", "schema": schema, "strict": True}}


FORMS: list[tuple[dict[str, Any], Grammar | None]] = [
    ({"response_format": {"type": "text"}}, None),
    (
        {"response_format": None, "grammar": "", "json_schema": None, "structured_outputs": None},
        None,
    ),
    (
        {"response_format": {"type": "json_object"}},
        Grammar(GrammarKind.JSON_SCHEMA, '{"type":"object"}', "response_format"),
    ),
    (
        {"response_format": {"type": "json_object", "schema": SCHEMA}},
        Grammar(GrammarKind.JSON_SCHEMA, AS_TEXT, "response_format.schema"),
    ),
    (
        {"response_format": named(SCHEMA)},
        Grammar(GrammarKind.JSON_SCHEMA, AS_TEXT, "response_format.json_schema.schema", True),
    ),
    ({"json_schema": SCHEMA}, Grammar(GrammarKind.JSON_SCHEMA, AS_TEXT, "json_schema")),
    ({"grammar": 'root ::= "a"'}, Grammar(GrammarKind.GBNF, 'root ::= "a"', "grammar")),
    (
        {"grammar": '%llguidance {}\nstart: "a"'},
        Grammar(GrammarKind.LARK, '%llguidance {}\nstart: "a"', "grammar"),
    ),
    (
        {"structured_outputs": {"json": SCHEMA}},
        Grammar(GrammarKind.JSON_SCHEMA, AS_TEXT, "structured_outputs.json"),
    ),
    (
        {"structured_outputs": {"regex": "a+"}},
        Grammar(GrammarKind.REGEX, "a+", "structured_outputs.regex"),
    ),
    (
        {"structured_outputs": {"choice": ["a", "é"]}},
        Grammar(GrammarKind.CHOICE, '["a","é"]', "structured_outputs.choice"),
    ),
    (
        {"structured_outputs": {"grammar": "root ::= [0-9]"}},
        Grammar(GrammarKind.GBNF, "root ::= [0-9]", "structured_outputs.grammar"),
    ),
    (
        {"structured_outputs": {"json_object": True}},
        Grammar(GrammarKind.JSON_SCHEMA, '{"type":"object"}', "structured_outputs.json_object"),
    ),
]

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"response_format": "json"}, "response_format"),
    ({"response_format": {"type": "yaml"}}, "response_format"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
        "response_format.json_schema.name",
    ),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "surprise": 1}}},
        "response_format.json_schema.surprise",
    ),
    ({"response_format": named([])}, "response_format.json_schema.schema"),
    ({"grammar": 7}, "grammar"),
    ({"json_schema": "x"}, "json_schema"),
    ({"structured_outputs": {}}, "structured_outputs"),
    ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "structured_outputs"),
    ({"structured_outputs": {"choice": []}}, "structured_outputs.choice"),
    ({"grammar": 'root ::= "a"', "json_schema": SCHEMA}, "json_schema"),
    ({"grammar": 'root ::= "a"', "response_format": {"type": "json_object"}}, "grammar"),
    ({"grammar": 'root ::= "a"', "ignore_eos": True}, "ignore_eos"),
]


@pytest.mark.parametrize(("path", "base"), [("chat/completions", CHAT), ("completions", TEXT)])
@pytest.mark.parametrize(("fields", "grammar"), FORMS)
async def test_every_name_becomes_the_one_grammar(
    path: str, base: dict[str, Any], fields: dict[str, Any], grammar: Grammar | None
) -> None:
    client = ScriptedClient(*ANSWER)
    async with http_around(client) as http:
        answer = await http.post(f"/v1/{path}", json={**base, **fields})
    assert answer.status_code == 200, answer.text
    assert client.requests[0].grammar == grammar


@pytest.mark.parametrize(("path", "base"), [("chat/completions", CHAT), ("completions", TEXT)])
@pytest.mark.parametrize(("fields", "param"), WRONG)
async def test_what_means_nothing_is_refused_by_its_field(
    path: str, base: dict[str, Any], fields: dict[str, Any], param: str
) -> None:
    client = ScriptedClient(*ANSWER)
    async with http_around(client) as http:
        answer = await http.post(f"/v1/{path}", json={**base, **fields})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"].partition("[")[0] == param
    assert client.requests == []


async def test_a_grammar_that_the_worker_refuses_is_a_400_also_for_a_stream() -> None:
    refused = BadRequest("It cannot be used: no.", param="grammar")
    async with http_around(ScriptedClient(refused)) as http:
        answer = await http.post(
            "/v1/completions", json={**TEXT, "grammar": "root ::= x", "stream": True}
        )
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "grammar")


async def test_a_form_that_breaks_in_the_middle_is_an_error_never_an_answer() -> None:
    broken = (
        Started(1, 5),
        Delta(request_id=1, text="{", num_tokens=1),
        ConstraintFailed("It cannot be kept to."),
    )
    async with http_around(ScriptedClient(*broken)) as http:
        whole = await http.post("/v1/completions", json={**TEXT, "json_schema": SCHEMA})
        stream = await http.post(
            "/v1/completions", json={**TEXT, "json_schema": SCHEMA, "stream": True}
        )
    assert (whole.status_code, whole.json()["error"]["code"]) == (400, "constraint_failed")
    last = stream.text.strip().splitlines()[-1]
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "constraint_failed"

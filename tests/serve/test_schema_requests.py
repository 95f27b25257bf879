"""Schemas with keywords that ask for nothing or cannot be enforced, from the request to
a real worker and back.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.worker.config import WorkerConfig
from tests.api.scripted_client import http_around
from tests.worker.running import config, running

__all__ = ["config"]  # a fixture

CASES = Path(__file__).parents[3] / "shared" / "cases" / "requests.jsonl"
MESSAGES = [{"role": "user", "content": "hi"}]
LIST = {"type": "array", "items": {"enum": [1, 2]}, "maxItems": 3, "uniqueItems": True}
SCHEMA = {
    "type": "object",
    "properties": {"a": LIST},
    "required": ["a"],
    "additionalProperties": False,
}
PLACE = "#/properties/a/uniqueItems"


def with_strict(body: dict[str, Any]) -> dict[str, Any]:
    response_format = body["response_format"]
    json_schema = {**response_format["json_schema"], "strict": True}
    return {**body, "response_format": {**response_format, "json_schema": json_schema}}


async def test_schemas_as_clients_send_them_are_answered_as_wanted(config: WorkerConfig) -> None:
    if not CASES.exists():
        pytest.skip(f"{CASES} is not there: it is not part of the project")
    cases = [msgspec.json.decode(line) for line in CASES.read_bytes().splitlines()]
    cases = [case for case in cases if case["name"].startswith("schema:")]
    assert len(cases) >= 5
    named, refused = {}, set()
    async with running(config) as supervisor, http_around(supervisor) as http:  # type: ignore[arg-type] # a Client too
        for case in cases:
            answer = await http.request(case["method"], case["path"], json=case["body"])
            assert answer.status_code == 200, (case["name"], answer.text)
            if places := answer.headers.get("x-unenforced-schema"):
                named[case["name"]] = places
            strict = await http.post(case["path"], json=with_strict(case["body"]))
            if strict.status_code == 400:
                refused.add(case["name"])
    assert named["schema: uniqueItems true"] == PLACE
    assert refused == named.keys() <= {"schema: uniqueItems true", "schema: not empty"}


JSON_SCHEMA = {"name": "m", "schema": SCHEMA}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "body", "places"),
    [
        (
            "/v1/chat/completions",
            {
                "messages": MESSAGES,
                "response_format": {"type": "json_schema", "json_schema": JSON_SCHEMA},
            },
            PLACE,
        ),
        ("/v1/chat/completions", {"messages": MESSAGES, "guided_json": SCHEMA}, PLACE),
        ("/v1/completions", {"prompt": "hi", "structured_outputs": {"json": SCHEMA}}, PLACE),
        ("/v1/completions", {"prompt": "hi", "json_schema": SCHEMA}, PLACE),
        (
            "/v1/responses",
            {"input": "hi", "text": {"format": {"type": "json_schema", **JSON_SCHEMA}}},
            PLACE,
        ),
        (
            "/v1/completions",
            {
                "prompt": "hi",
                "grammar": "%llguidance {}\nstart: %json " + msgspec.json.encode(LIST).decode(),
            },
            "%json#/uniqueItems",
        ),
    ],
)
async def test_what_is_left_to_the_model_is_named_by_every_name_of_a_schema(
    config: WorkerConfig, path: str, body: dict[str, Any], places: str, stream: bool
) -> None:
    async with running(config) as supervisor, http_around(supervisor) as http:  # type: ignore[arg-type] # a Client too
        answer = await http.post(path, json={**body, "stream": stream, "max_tokens": 8})
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-unenforced-schema"] == places


async def test_a_schema_without_an_end_is_refused_before_it_is_begun(config: WorkerConfig) -> None:
    endless = {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}
    async with running(config) as supervisor, http_around(supervisor) as http:  # type: ignore[arg-type] # a Client too
        refused = await http.post("/v1/completions", json={"prompt": "hi", "json_schema": endless})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "json_schema")
    assert "#/properties/a is required and leads back to #" in refused.json()["error"]["message"]

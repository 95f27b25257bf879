"""Requests as clients of other servers send them, from ../shared/cases/requests.jsonl."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.api.app import create_app
from tests.api.scripted_client import (
    ANSWER,
    ScriptedClient,
    gateway_around,
    http_around,
    http_to,
)

CASES = Path(__file__).parents[3] / "shared" / "cases" / "requests.jsonl"

# The first words of a case's name -> why it is not looked at here.
ELSEWHERE = {
    "schema:": "what a schema's keywords ask for is up to the compiler of grammars",
    "preflight": "CORS",
    "Host": "guards",
    "gzip": "how a body is packed",
}


def is_elsewhere(case: dict[str, Any]) -> bool:
    is_number = isinstance(case["want"], int)  # else it needs a server of its own, below
    return str(case["name"]).startswith(tuple(ELSEWHERE)) or not is_number


def read_cases() -> list[dict[str, Any]]:
    if not CASES.exists():
        pytest.skip(f"{CASES} is not there: it is not part of the project")
    return [msgspec.json.decode(line) for line in CASES.read_bytes().splitlines()]


async def test_a_key_is_taken_as_x_api_key() -> None:
    [case] = [case for case in read_cases() if case["name"] == "key as x-api-key"]
    app = create_app(gateway_around(ScriptedClient(), keys=["KEY"]))
    async with http_to(app) as http:
        answered = await http.request(case["method"], case["path"], headers=case["headers"])
        refused = await http.request(case["method"], case["path"], headers={"x-api-key": "guess"})
    assert (answered.status_code, refused.status_code) == (200, 401)


async def test_requests_as_clients_send_them_are_answered_as_wanted() -> None:
    cases = [case for case in read_cases() if not is_elsewhere(case)]
    assert len(cases) >= 46
    wrong = {}
    for case in cases:
        async with http_around(ScriptedClient(*ANSWER)) as http:
            response = await http.request(case["method"], case["path"], json=case.get("body"))
        if response.status_code != case["want"]:
            wrong[case["name"]] = response.text
    assert wrong == {}

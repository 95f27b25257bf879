"""Requests as clients of other servers send them, from ../shared/cases/requests.jsonl."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.api.scripted_client import ANSWER, ScriptedClient, http_around

CASES = Path(__file__).parents[3] / "shared" / "cases" / "requests.jsonl"

# The first words of a case's name -> why it is not looked at here.
ELSEWHERE = {
    "schema:": "what a schema's keywords ask for is up to the compiler of grammars",
    "preflight": "CORS",
    "HEAD": "methods",
    "GET /": "paths",
    "base URL": "paths",
    "Host": "guards",
    "key as": "guards",
    "gzip": "how a body is packed",
}


def is_elsewhere(case: dict[str, Any]) -> bool:
    return str(case["name"]).startswith(tuple(ELSEWHERE))


def read_cases() -> list[dict[str, Any]]:
    if not CASES.exists():
        pytest.skip(f"{CASES} is not there: it is not part of the project")
    return [msgspec.json.decode(line) for line in CASES.read_bytes().splitlines()]


async def test_requests_as_clients_send_them_are_answered_as_wanted() -> None:
    cases = [case for case in read_cases() if not is_elsewhere(case)]
    assert len(cases) >= 39
    wrong = {}
    for case in cases:
        async with http_around(ScriptedClient(*ANSWER)) as http:
            response = await http.request(case["method"], case["path"], json=case["body"])
        if response.status_code != case["want"]:
            wrong[case["name"]] = response.text
    assert wrong == {}

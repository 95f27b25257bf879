"""Requests as clients of other servers send them, from ../shared/cases/requests.jsonl."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
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


def is_elsewhere(case: dict[str, Any]) -> bool:
    """It needs a server of its own: below, or tests/serve/test_schema_requests.py."""
    return not isinstance(case["want"], int)


def read_cases() -> list[dict[str, Any]]:
    if not CASES.exists():
        pytest.skip(f"{CASES} is not there: it is not part of the project")
    return [msgspec.json.decode(line) for line in CASES.read_bytes().splitlines()]


def the_case(name: str) -> dict[str, Any]:
    [case] = [case for case in read_cases() if case["name"] == name]
    return case


async def status_of(case: dict[str, Any], *, keys: Sequence[str] = (), **options: Any) -> int:
    """From a server with these options."""
    app = create_app(gateway_around(ScriptedClient(*ANSWER), keys), **options)
    async with http_to(app) as http:
        headers = {"host": "localhost", **case.get("headers", {})}
        response = await http.request(
            case["method"], case["path"], json=case.get("body"), headers=headers
        )
    return response.status_code


async def test_a_preflight_is_answered_as_wanted() -> None:
    case = the_case("preflight")
    assert await status_of(case, allowed_origins=["http://localhost:3000"], keys=["KEY"]) == 204
    assert await status_of(case) == 403


async def test_hosts_are_answered_as_wanted() -> None:
    tunnel = the_case("Host of a tunnel")
    assert await status_of(tunnel, allowed_hosts=()) == 403
    assert await status_of(tunnel, allowed_hosts=["llm.example.org"]) == 200
    assert await status_of(the_case("Host 0.0.0.0"), allowed_hosts=()) == 200


async def test_a_gzip_body_is_read_as_wanted() -> None:
    case = the_case("gzip body")
    headers = {"content-type": "application/json", **case["headers"]}
    packed = gzip.compress(msgspec.json.encode(case["body"]))
    async with http_around(ScriptedClient(*ANSWER)) as http:
        response = await http.post(case["path"], content=packed, headers=headers)
    assert response.status_code == 200


async def test_a_key_is_taken_as_x_api_key() -> None:
    case = the_case("key as x-api-key")
    assert await status_of(case, keys=["KEY"]) == 200
    assert await status_of(case, keys=["another"]) == 401


async def test_requests_as_clients_send_them_are_answered_as_wanted() -> None:
    cases = [case for case in read_cases() if not is_elsewhere(case)]
    assert len(cases) >= 51
    wrong = {}
    for case in cases:
        async with http_around(ScriptedClient(*ANSWER)) as http:
            response = await http.request(
                case["method"],
                case["path"],
                json=case.get("body"),
                headers=case.get("headers"),
            )
        if response.status_code != case["want"]:
            wrong[case["name"]] = response.text
    assert wrong == {}

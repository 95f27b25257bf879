"""`cache_prompt`, `exact` and `keep_alive`: on every endpoint, every way to write a time,
and what is none.
"""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.api.scripted_client import ANSWER, ScriptedClient, http_around

BODIES: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hello"}]}),
    ("/v1/completions", {"prompt": "Once"}),
    ("/v1/responses", {"input": "Hello"}),
    ("/infill", {"input_prefix": "a", "input_suffix": "b"}),
]


@pytest.mark.parametrize(("path", "body"), BODIES)
async def test_they_go_with_the_request(path: str, body: dict[str, Any]) -> None:
    client = ScriptedClient(*ANSWER)
    async with http_around(client) as http:
        for fields in (
            {},
            {"keep_alive": None, "cache_prompt": True, "exact": False},
            {"keep_alive": "5m", "cache_prompt": False, "exact": True},
        ):
            assert (await http.post(path, json={**body, **fields})).status_code == 200
    assert [request.keep_alive_s for request in client.requests] == [None, None, 300.0]
    assert [request.uses_cache for request in client.requests] == [True, True, False]
    assert [request.is_exact for request in client.requests] == [None, False, True]


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (300, 300.0),
        (0, 0.0),
        (2.5, 2.5),
        (-1, math.inf),
        ("300", 300.0),
        ("0", 0.0),
        ("0s", 0.0),
        ("-1", math.inf),
        ("-1m", math.inf),
        ("1.5h", 5400.0),
        ("1h30m", 5400.0),
        ("250ms", 0.25),
        ("2d", 172_800.0),
    ],
)
async def test_every_way_to_write_a_time(written: object, seconds: float) -> None:
    client = ScriptedClient(*ANSWER)
    async with http_around(client) as http:
        response = await http.post(
            "/v1/completions", json={"prompt": "Once", "keep_alive": written}
        )
    assert response.status_code == 200, response.text
    [request] = client.requests
    assert request.keep_alive_s == seconds


@pytest.mark.parametrize(
    "written", ["", "soon", "5 m", "m", "5y", "1h-2m", "9" * 100_000, 1e10, True, [5], {}]
)
async def test_what_is_no_time_is_refused(written: object) -> None:
    async with http_around(ScriptedClient(*ANSWER)) as http:
        response = await http.post(
            "/v1/completions", json={"prompt": "Once", "keep_alive": written}
        )
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, "keep_alive")
    assert "such as '5m'" in error["message"]
    assert len(error["message"]) < 300

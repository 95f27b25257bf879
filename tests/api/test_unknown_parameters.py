"""What nobody here knows is left out and named, in a header and once for each client in
the log; with `strict_parameters` see `test_refused_parameters`.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from appliance.api.app import create_app
from tests.api.answered_requests import BODIES
from tests.api.scripted_client import ANSWER, ScriptedClient, gateway_around, http_to
from tests.api.serving import Serve

HEADER = "x-ignored-parameters"
LOGGER = "appliance.api.transport.unknown_parameters"


async def post(app: FastAPI, path: str, body: dict[str, Any], **headers: str) -> httpx.Response:
    async with http_to(app, **headers) as http:
        return await http.post(path, json=body)


def app_around(client: ScriptedClient, **options: Any) -> FastAPI:
    return create_app(gateway_around(client), **options)


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_was_ignored_is_named_in_a_header(path: str, stream: bool) -> None:
    client = ScriptedClient(*ANSWER)
    body = {**BODIES[path], "my_client_flag": 1, "stream": stream, "other": {"a": []}}
    response = await post(app_around(client), f"/v1/{path}", body)
    assert (response.status_code, len(client.requests)) == (200, 1)
    assert response.headers[HEADER] == "my_client_flag, other"


async def test_it_is_named_beside_a_refusal_too() -> None:
    body = {**BODIES["completions"], "tempratura": 0.5, "temperature": 9}
    response = await post(app_around(ScriptedClient(*ANSWER)), "/v1/completions", body)
    assert response.json()["error"]["param"] == "temperature"
    assert response.headers[HEADER] == "tempratura"


async def test_nothing_is_named_where_nothing_was_ignored() -> None:
    body = {**BODIES["completions"], "unknown_but_null": None, "store": True, "n_predict": 1}
    response = await post(app_around(ScriptedClient(*ANSWER)), "/v1/completions", body)
    assert (response.status_code, HEADER in response.headers) == (200, False)


async def test_other_endpoints_take_what_they_do_not_know() -> None:
    app = app_around(ScriptedClient(*ANSWER))
    response = await post(app, "/tokenize", {"content": "a", "add_special": None, "x": 1})
    assert (response.status_code, response.headers[HEADER]) == (200, "x")


async def test_names_of_any_kind_and_number_fit_into_a_header() -> None:
    odd = {"a\r\nSet-Cookie: b=c": 1, "ünï": 1, "x, y": 1, "": 1, "<text>": 1}
    body = {**BODIES["completions"], **odd, "y" * 100_000: 1}
    response = await post(app_around(ScriptedClient(*ANSWER)), "/v1/completions", body)
    names = response.headers[HEADER]
    assert names.startswith("a%0D%0ASet-Cookie%3A%20b%3Dc, %C3%BCn%C3%AF, x%2C%20y, , %3Ctext%3E,")
    assert "set-cookie" not in response.headers
    assert len(names) < 200
    many = {f"name{at}": at for at in range(20_000)}
    response = await post(
        app_around(ScriptedClient(*ANSWER)), "/v1/completions", {**BODIES["completions"], **many}
    )
    assert response.headers[HEADER].endswith("name15, ...")


async def test_a_client_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    app = app_around(ScriptedClient(*ANSWER))
    for address in ("10.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.1"):
        transport = httpx.ASGITransport(app, client=(address, 5000))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            await http.post("/v1/completions", json={"prompt": "a", "my_client_flag": 1})
    ours = [record.getMessage() for record in caplog.records if record.name == LOGGER]
    assert [message.split()[0] for message in ours] == ["10.0.0.1", "10.0.0.2"]
    assert "ignores: my_client_flag (--strict-parameters refuses them)" in ours[0]


async def test_a_key_is_a_client_wherever_it_comes_from(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    app = create_app(gateway_around(ScriptedClient(*ANSWER), ["secret"]))
    for address in ("10.0.0.1", "10.0.0.2"):
        transport = httpx.ASGITransport(app, client=(address, 5000))
        headers = {"Authorization": "Bearer secret"}
        async with httpx.AsyncClient(
            transport=transport, base_url="http://localhost", headers=headers
        ) as http:
            await http.post("/v1/completions", json={"prompt": "a", "x": 1})
    assert len([record for record in caplog.records if record.name == LOGGER]) == 1
    assert "secret" not in caplog.text


async def test_over_a_real_connection(serve: Serve) -> None:
    url = serve(app_around(ScriptedClient(*ANSWER)))
    async with httpx.AsyncClient(base_url=url) as http:
        for stream in (False, True):
            body = {"prompt": "a", "ä\n": 1, "stream": stream}
            response = await asyncio.wait_for(http.post("/v1/completions", json=body), 30)
            assert (response.status_code, response.headers[HEADER]) == (200, "%C3%A4%0A")


def test_the_description_says_whether_more_properties_are_taken() -> None:
    for is_strict in (False, True):
        app = app_around(ScriptedClient(), strict_parameters=is_strict)
        schema = app.openapi()["components"]["schemas"]["ChatRequest"]
        assert (schema.get("additionalProperties") is False) == is_strict

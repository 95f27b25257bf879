"""Whatever fails at Anthropic's paths, or in a request that carries Anthropic's header,
has Anthropic's shape.
"""

from __future__ import annotations

import httpx
import pytest

from appliance.api.app import create_app
from appliance.errors import PromptTooLong, QueueFull
from tests.api.anthropic.talk import HI, post
from tests.api.scripted_client import ANSWER, ScriptedClient, gateway_around, http_to

VERSION = {"anthropic-version": "2023-06-01"}
KEY = {"x-api-key": "secret"}


async def sent(
    method: str, path: str, headers: dict[str, str], body: bytes = b""
) -> httpx.Response:
    app = create_app(gateway_around(ScriptedClient(*ANSWER), keys=["secret"]), max_body_bytes=999)
    async with http_to(app) as http:
        return await http.request(method, path, headers=headers, content=body)


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "kind"),
    [
        ("POST", "/v1/messages", {}, 401, "authentication_error"),
        ("POST", "/v1/messages/count_tokens", {}, 401, "authentication_error"),
        ("GET", "/v1/models", VERSION, 401, "authentication_error"),
        ("GET", "/v1/messages", KEY, 405, "invalid_request_error"),
        ("POST", "/v1/messages/batches", KEY, 404, "not_found_error"),
        ("POST", "/v1/complete", {**KEY, **VERSION}, 404, "not_found_error"),
        ("GET", "/v1/models/other", {**KEY, **VERSION}, 404, "not_found_error"),
        ("POST", "/v1/messages", KEY, 400, "invalid_request_error"),
    ],
)
async def test_refusals(
    method: str, path: str, headers: dict[str, str], status: int, kind: str
) -> None:
    response = await sent(method, path, headers)
    body = response.json()
    assert (response.status_code, body["type"], body["error"]["type"]) == (status, "error", kind)
    assert body["request_id"].startswith("req_")
    assert response.headers["request-id"] == body["request_id"]


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        (b"{", 400, "invalid_request_error"),
        (b'{"messages": 1}', 400, "invalid_request_error"),
        (
            b'{"messages": [{"role": "user", "content": "%s"}]}' % (b"a" * 999),
            413,
            "request_too_large",
        ),
        (
            b'{"model": "claude-9", "messages": [{"role": "user", "content": "Hi"}]}',
            404,
            "not_found_error",
        ),
    ],
)
async def test_bodies(body: bytes, status: int, kind: str) -> None:
    headers = {**KEY, "content-type": "application/json"}
    response = await sent("POST", "/v1/messages", headers, body)
    assert (response.status_code, response.json()["error"]["type"]) == (status, kind)


async def test_without_the_header_other_paths_have_their_own_shape() -> None:
    response = await sent("GET", "/v1/models", {})
    assert response.json()["error"].keys() == {"message", "type", "param", "code"}
    assert "request-id" not in response.headers


async def test_a_prompt_that_is_too_long_is_named_as_clients_know_it() -> None:
    response = await post(ScriptedClient(PromptTooLong.of(9000, 8191)))
    assert response.status_code == 400
    message = response.json()["error"]["message"]
    assert message.startswith("prompt is too long: 9000 tokens > 8191 maximum")


async def test_a_full_queue() -> None:
    response = await post(ScriptedClient(QueueFull("Full.")), messages=[HI])
    assert (response.status_code, response.headers["retry-after"]) == (429, "1")
    assert response.json()["error"] == {"type": "rate_limit_error", "message": "Full."}


async def test_unknown_parameters_are_named() -> None:
    response = await post(ScriptedClient(*ANSWER), novel=1)
    assert (response.status_code, response.headers["x-ignored-parameters"]) == (200, "novel")

"""Every way to be refused:
status, OpenAI's error shape, and the headers that belong to it.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from appliance.api.app import create_app
from appliance.errors import ApplianceError, ModelNotReady, PromptTooLong, QueueFull, WorkerLost
from appliance.protocol.events import Delta, Started
from tests.api.scripted_client import (
    ANSWER,
    CREATED,
    ScriptedClient,
    gateway_around,
    http_around,
    http_to,
)

CHAT = {"messages": [{"role": "user", "content": "Hello"}]}
JSON = {"content-type": "application/json"}


def error_of(response: httpx.Response, status: int, code: str | None) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert body.keys() == {"error"}
    assert body["error"].keys() - {"n_prompt_tokens", "n_ctx"} == {
        "message",
        "type",
        "param",
        "code",
    }
    assert body["error"]["code"] == code
    error: dict[str, Any] = body["error"]
    return error


# --- paths and bodies -----------------------------------------------------------------


async def test_unknown_paths_and_methods() -> None:
    async with http_around(ScriptedClient()) as http:
        error = error_of(await http.get("/v1/nothing"), 404, "unknown_path")
        assert error["message"] == "There is no such path: GET /v1/nothing."
        response = await http.get("/v1/chat/completions")
        assert error_of(response, 405, "method_not_allowed")["type"] == "invalid_request_error"
        assert response.headers["allow"] == "OPTIONS, POST"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "invalid_json"),
        (b"{'messages': 1}", "invalid_json"),
        (b'{"messages": NaN}', "invalid_json"),
        (b'{"half \\ud83d": "a character"}', "invalid_json"),
        (b"", "invalid_value"),
        (b"[]", "invalid_value"),
        (b'"text"', "invalid_value"),
        (b'"\xff\xfe"', "invalid_json"),
        (b"[" * 100_000, "invalid_json"),
    ],
)
async def test_a_body_that_is_no_json_object_is_400(body: bytes, code: str) -> None:
    async with http_around(ScriptedClient()) as http:
        response = await http.post("/v1/chat/completions", content=body, headers=JSON)
    assert error_of(response, 400, code)["param"] is None


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "application/xml", ""]
)
async def test_json_must_be_declared_by_a_web_page_which_may_post_text_anywhere(
    content_type: str,
) -> None:
    client = ScriptedClient(*ANSWER)
    body = b'{"messages": [{"role": "user", "content": "Hello"}]}'
    said = {"content-type": content_type} if content_type else {}
    async with http_around(client) as http:
        for header in ({"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}):
            response = await http.post(
                "/v1/chat/completions", content=body, headers={**said, **header}
            )
            error = error_of(response, 400, "invalid_request")
            assert "Content-Type: application/json" in error["message"]
        assert client.requests == []
        declared = {"content-type": "application/json; charset=utf-8", "origin": "null"}
        response = await http.post("/v1/chat/completions", content=body, headers=declared)
        assert response.status_code == 200
        # who is no browser need not say it: LiteLLM and `curl -d` do not
        response = await http.post("/v1/chat/completions", content=body, headers=said)
        assert response.status_code == 200
        response = await http.post("/v1/chat/completions", content=b"a=1", headers=said)
        error_of(response, 400, "invalid_json")


async def test_a_body_over_the_limit_is_413_announced_or_not() -> None:
    app = create_app(gateway_around(ScriptedClient(*ANSWER)), max_body_bytes=100)
    num_sent = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal num_sent
        while True:  # it ends only because reading stops
            num_sent += 1
            yield b" " * 60

    async with http_to(app) as http:
        response = await http.post("/v1/chat/completions", content=b" " * 101, headers=JSON)
        assert "larger than 100 bytes" in error_of(response, 413, "body_too_large")["message"]
        response = await http.post("/v1/chat/completions", content=chunks(), headers=JSON)
        error_of(response, 413, "body_too_large")
        assert num_sent == 2
        exact = b'{"messages": [{"role": "user", "content": "Hello"}]}'.ljust(100)
        assert (
            await http.post("/v1/chat/completions", content=exact, headers=JSON)
        ).status_code == 200


# --- who asks -------------------------------------------------------------------------


async def test_keys_guard_every_path_but_the_open_ones() -> None:
    app = create_app(gateway_around(ScriptedClient(*ANSWER), keys=["secret"]))
    async with http_to(app) as http:
        for path in ("/v1/models", "/openapi.json", "/v1/nothing", "/health/x"):
            response = await http.get(path)
            error_of(response, 401, "invalid_api_key")
            assert response.headers["www-authenticate"] == "Bearer"
        error_of(
            await http.get("/v1/models", headers={"authorization": "Bearer guess"}),
            401,
            "invalid_api_key",
        )
        assert (
            await http.get("/v1/models", headers={"authorization": "Bearer secret"})
        ).status_code == 200
        for path in ("/health", "/health/", "/v1/health"):
            assert (await http.get(path)).json() == {"status": "ok"}
        assert (
            "models"
            in (await http.get("/health", headers={"authorization": "Bearer secret"})).json()
        )


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.0.0.1:9", "[::1]", "[::1]:8080"]
)
async def test_a_loopback_server_answers_to_its_own_names(host: str) -> None:
    app = create_app(gateway_around(ScriptedClient()), allowed_hosts=())
    async with http_to(app, host=host) as http:
        assert (await http.get("/health")).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8080", "localhost.evil.example", "[::1].evil.example", ""],
)
async def test_a_loopback_server_answers_to_no_foreign_name(host: str) -> None:
    app = create_app(gateway_around(ScriptedClient()), allowed_hosts=())
    async with http_to(app, host=host) as http:
        assert (
            error_of(await http.get("/health"), 403, "foreign_host")["type"] == "permission_error"
        )


# --- what the model says --------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("refusal", "kind", "retry_after"),
    [
        (PromptTooLong.of(9000, 8191), "invalid_request_error", None),
        (QueueFull("Full."), "rate_limit_error", "1"),
        (ModelNotReady("Loading."), "server_error", "2"),
        (WorkerLost("It died."), "server_error", "2"),
    ],
)
async def test_a_refusal_has_its_own_status_also_for_a_stream(
    refusal: ApplianceError, kind: str, retry_after: str | None, stream: bool
) -> None:
    async with http_around(ScriptedClient(refusal)) as http:
        response = await http.post("/v1/chat/completions", json={**CHAT, "stream": stream})
    error = error_of(response, refusal.status, refusal.code)
    assert (error["message"], error["type"], error["param"]) == (
        refusal.message,
        kind,
        refusal.param,
    )
    assert response.headers.get("retry-after") == retry_after


async def test_an_unknown_model_is_404() -> None:
    async with http_around(ScriptedClient(*ANSWER)) as http:
        response = await http.post("/v1/chat/completions", json={**CHAT, "model": "gpt-9"})
    error = error_of(response, 404, "model_not_found")
    assert error["param"] == "model"
    assert (
        error["message"] == "The model 'gpt-9' is not served here. Served: 'novels', 'org/novels'."
    )


async def test_a_draining_server_is_503() -> None:
    gateway = gateway_around(ScriptedClient(*ANSWER))
    gateway.begin_drain()
    async with http_to(create_app(gateway)) as http:
        error_of(await http.post("/v1/chat/completions", json=CHAT), 503, "shutting_down")
        response = await http.get("/health")
        assert (response.status_code, response.json()["status"]) == (503, "draining")


async def test_a_server_that_announced_its_end_still_answers() -> None:
    gateway = gateway_around(ScriptedClient(*ANSWER))
    gateway.announce_end()
    async with http_to(create_app(gateway)) as http:
        response = await http.get("/health")
        assert (response.status_code, response.json()["status"]) == (503, "draining")
        assert (await http.post("/v1/chat/completions", json=CHAT)).status_code == 200


async def test_an_unforeseen_failure_is_500_without_internals_and_logged_with_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with http_around(ScriptedClient(RuntimeError("the secret detail"))) as http:
        response = await http.post("/v1/chat/completions", json=CHAT)
    assert error_of(response, 500, "internal_error")["type"] == "server_error"
    assert "secret" not in response.text
    assert "the secret detail" in caplog.text
    assert "Traceback" in caplog.text


async def test_an_answer_lost_half_way_is_an_error_when_nothing_was_written_yet(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL)
    script = ScriptedClient(
        Started(1, 1), Delta(request_id=1, text="It", num_tokens=1), WorkerLost("It died.")
    )
    async with http_around(script) as http:
        error_of(await http.post("/v1/completions", json={"prompt": "Once"}), 503, "worker_lost")


# --- models ---------------------------------------------------------------------------


async def test_models_are_listed_and_found_by_id_and_alias() -> None:
    novels = {
        "id": "novels",
        "object": "model",
        "created": CREATED,
        "owned_by": "appliance",
        "aliases": ["org/novels"],
        "state": "ready",
        "loaded": True,
        "last_error": None,
        "quantization": "Q8_0",
        "ctx": 2048,
        "slots": 4,
        "predicted_bytes": None,
        "reduced": False,
    }
    async with http_around(ScriptedClient()) as http:
        assert (await http.get("/v1/models")).json() == {"object": "list", "data": [novels]}
        assert (await http.get("/v1/models/novels")).json() == novels
        assert (await http.get("/v1/models/org/novels")).json() == novels
        assert (await http.get("/v1/models/org%2Fnovels")).json() == novels
        error_of(await http.get("/v1/models/gpt-9"), 404, "model_not_found")

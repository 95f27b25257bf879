"""CORS: what a browser asks before it sends, and what it lets a page read of every kind of
response.
"""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from appliance.api.app import create_app
from appliance.errors import WorkerLost
from appliance.protocol.events import Started
from tests.api.scripted_client import ANSWER, ScriptedClient, gateway_around, http_to
from tests.api.serving import Serve

PAGE = "http://localhost:3000"
CHAT = {"messages": [{"role": "user", "content": "Hello"}]}
PREFLIGHT = {
    "origin": PAGE,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type",
}


def http_allowing(*origins: str, **options: Any) -> httpx.AsyncClient:
    """With a key, which no preflight has."""
    client = options.pop("client", None) or ScriptedClient(*ANSWER)
    gateway = gateway_around(client, keys=["secret"])
    return http_to(create_app(gateway, allowed_origins=origins, **options))


async def preflight(
    *allowed: str, path: str = "/v1/chat/completions", **sent: str
) -> httpx.Response:
    headers = {**PREFLIGHT, **{name.replace("_", "-"): value for name, value in sent.items()}}
    async with http_allowing(*allowed) as http:
        return await http.options(path, headers=headers)


async def test_a_preflight_is_granted_without_a_key() -> None:
    for path in ("/v1/chat/completions", "/chat/completions/", "/v1/models", "/nothing"):
        response = await preflight(PAGE, path=path)
        assert (response.status_code, response.content) == (204, b"")
        headers = response.headers
        assert headers["access-control-allow-origin"] == PAGE
        assert headers["access-control-allow-headers"] == "authorization,content-type"
        assert "POST" in headers["access-control-allow-methods"].split(", ")
        assert headers["access-control-allow-credentials"] == "true"
        assert headers["access-control-max-age"] == "600"
        assert "origin" in headers["vary"].lower().split(", ")
        assert "access-control-allow-private-network" not in headers


async def test_a_page_of_the_internet_may_reach_into_a_private_network_if_it_is_allowed() -> None:
    asked = {"access_control_request_private_network": "true"}
    granted = await preflight(
        "https://chat.example.org", origin="https://chat.example.org", **asked
    )
    assert granted.headers["access-control-allow-private-network"] == "true"
    refused = await preflight(PAGE, origin="https://evil.example", **asked)
    assert "access-control-allow-private-network" not in refused.headers


@pytest.mark.parametrize("allowed", [(), ("https://chat.example.org",)])
async def test_a_preflight_of_another_page_is_403_and_names_the_option(
    allowed: tuple[str, ...],
) -> None:
    response = await preflight(*allowed)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (403, "foreign_origin")
    assert error["message"].endswith(f"serve with --allow-origin {PAGE}.")
    assert not [name for name in response.headers if name.startswith("access-control")]


async def test_any_page_may_be_allowed() -> None:
    response = await preflight("*", origin="https://any.example")
    assert response.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in response.headers
    both = await preflight("*", PAGE)
    assert both.headers["access-control-allow-origin"] == PAGE


@pytest.mark.parametrize(
    ("allowed", "origin", "is_allowed"),
    [
        ("http://localhost:*", "http://localhost:3000", True),
        ("http://localhost:*", "http://localhost:3000.evil.example", False),
        ("http://localhost:*", "http://localhost", False),
        ("https://*.example.org", "https://a.b.example.org", True),
        ("https://*.example.org", "https://example.org", False),
        ("https://*.example.org", "https://evil.example/.example.org", False),
        ("https://*.example.org", "https://evil.example:1.example.org", False),
        ("https://*.example.org", "http://a.example.org", False),
        ("https://*.example.org", "https://a\tb.example.org", False),
        ("https://chat.example.org", "https://CHAT.example.org", True),
        ("https://chat.example.org", "https://chat.example.org.evil.example", False),
        ("https://chat.example.org", "https://chatXexample.org", False),
        ("null", "null", True),
        ("https://chat.example.org", "null", False),
        ("app://obsidian.md", "app://obsidian.md", True),
        ("http://[::1]:3000", "http://[::1]:3000", True),
    ],
)
async def test_origins_match_as_a_whole(allowed: str, origin: str, is_allowed: bool) -> None:
    response = await preflight(allowed, origin=origin)
    assert response.status_code == (204 if is_allowed else 403)
    async with http_allowing(allowed) as http:
        response = await http.get("/health", headers={"origin": origin})
    assert response.headers.get("access-control-allow-origin") == (origin if is_allowed else None)
    assert response.headers["vary"] == "Origin"


@pytest.mark.parametrize("names", ["", "x-a\tb", "x" * 5_000, "x-a; y"])
async def test_asked_header_names_that_are_none_are_not_repeated(names: str) -> None:
    response = await preflight(PAGE, access_control_request_headers=names)
    granted = response.headers["access-control-allow-headers"]
    assert granted in ("authorization, content-type, x-api-key", "x-a\tb")


async def test_options_that_is_no_preflight_is_like_any_request() -> None:
    async with http_allowing(PAGE) as http:
        response = await http.options("/v1/models", headers={"origin": PAGE})
        assert response.status_code == 401
        key = {"authorization": "Bearer secret"}
        response = await http.options("/v1/models", headers={"origin": PAGE, **key})
    assert (response.status_code, response.headers["allow"]) == (204, "GET, HEAD, OPTIONS")
    assert response.headers["access-control-allow-origin"] == PAGE


async def test_every_kind_of_error_can_be_read_by_the_page() -> None:
    key = {"authorization": "Bearer secret"}
    json_body = {"content-type": "application/json"}
    statuses = []
    lost = ScriptedClient(WorkerLost("It died."))
    broken = ScriptedClient(RuntimeError("unforeseen"))
    for client, path, headers, body in (
        (None, "/v1/chat/completions", {}, b"{}"),
        (None, "/nothing", key, b""),
        (None, "/v1/models", key, b""),
        (None, "/v1/chat/completions", key, b"{"),
        (None, "/v1/chat/completions", key, b" " * 1001),
        (lost, "/v1/chat/completions", key, json.dumps(CHAT).encode()),
        (broken, "/v1/chat/completions", key, json.dumps(CHAT).encode()),
        (None, "/v1/chat/completions", {**key, "host": "evil.example"}, b"{}"),
    ):
        async with http_allowing(
            PAGE, client=client, max_body_bytes=1000, allowed_hosts=()
        ) as http:
            sent = {**json_body, "origin": PAGE, **headers}
            response = await http.post(path, content=body, headers=sent)
        statuses.append(response.status_code)
        assert response.headers["access-control-allow-origin"] == PAGE
        exposed = response.headers["access-control-expose-headers"].split(", ")
        assert {"x-ignored-parameters", "retry-after", "x-request-id"} <= {*exposed}
    assert statuses == [401, 404, 405, 400, 413, 503, 500, 403]


async def test_streams_too_also_those_that_break(serve: Serve) -> None:
    for script in (ANSWER, (Started(1, 5), WorkerLost("It died."))):
        app = create_app(gateway_around(ScriptedClient(*script)), allowed_origins=[PAGE])
        async with httpx.AsyncClient(headers={"origin": PAGE}) as http:
            response = await http.post(
                f"{serve(app)}/v1/chat/completions", json={**CHAT, "stream": True}
            )
        assert response.status_code == 200
        assert response.headers["access-control-allow-origin"] == PAGE
        assert response.headers["content-type"].startswith("text/event-stream")


async def test_other_clients_see_nothing_of_it() -> None:
    key = {"authorization": "Bearer secret"}
    for allowed, vary in (((), None), (("*",), None), ((PAGE,), "Origin")):
        async with http_allowing(*allowed) as http:
            response = await http.get("/v1/models", headers=key)
            page = await http.get("/", headers=key)
        assert response.headers.get("vary") == vary
        assert page.headers["vary"] == ("Accept" if vary is None else "Accept, Origin")
        assert not [name for name in response.headers if name.startswith("access-control")]

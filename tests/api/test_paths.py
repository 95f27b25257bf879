"""Paths a little wrong are understood, and the guards see what is meant; methods that no
route declares are answered on every one.
"""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.routing import Route

from appliance.api.app import create_app
from appliance.api.door.paths import KnownRoutes
from tests.api.scripted_client import ANSWER, ScriptedClient, gateway_around, http_around, http_to
from tests.api.serving import Serve

CHAT = {"messages": [{"role": "user", "content": "Hello"}]}
GETS = [
    "/v1/models",
    "/health",
    "/metrics",
    "/stats",
    "/usage",
    "/ps",
    "/props",
    "/slots",
    "/openapi.json",
    "/",
]


def known_routes() -> KnownRoutes:
    app = create_app(gateway_around(ScriptedClient()))
    routes: KnownRoutes = app.state.known_routes
    return routes


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ("/v1//chat/completions", "/v1/chat/completions"),
        ("//v1/chat/completions", "/v1/chat/completions"),
        ("/v1/chat/completions/", "/v1/chat/completions"),
        ("/v1/chat//completions///", "/v1/chat/completions"),
        ("/chat/completions", "/v1/chat/completions"),
        ("/v1/v1/chat/completions", "/v1/chat/completions"),
        ("//v1//v1/v1//chat/completions/", "/v1/chat/completions"),
        ("/completions/", "/completions"),
        ("/v1/v1/completions", "/v1/completions"),
        ("/v1/completion", "/completion"),
        ("/v1/embedding", "/embedding"),
        ("/responses", "/v1/responses"),
        ("/models", "/v1/models"),
        ("/models/", "/v1/models"),
        ("/v1/models/", "/v1/models"),
        ("/models/org/novels", "/v1/models/org/novels"),
        ("/v1/v1/models/novels/", "/v1/models/novels"),
        ("/v1/v2/rerank", "/v2/rerank"),
        ("/v1/infill", "/infill"),
        ("/v1/v1/tokenize/", "/tokenize"),
        ("/v1/props", "/props"),
        ("/v1/health/", "/health"),
        ("/v1/metrics", "/metrics"),
        ("/v1/openapi.json", "/openapi.json"),
        ("/v1", "/"),
        ("/v1/", "/"),
        ("//", "/"),
        ("", "/"),
    ],
)
def test_a_path_a_little_wrong_is_understood(sent: str, meant: str) -> None:
    assert known_routes().meant_by(sent) == meant


def test_every_path_is_understood_in_every_spelling_and_never_changed_when_exact() -> None:
    routes = known_routes()
    for path in [*routes._literal, "/v1/models/novels", "/v1/models/v1/models"]:
        assert routes.meant_by(path) == path
        if path == "/":
            continue
        bare = path.removeprefix("/v1")
        spellings = [f"{path}/", path.replace("/", "//"), f"/v1{path}", f"/v1/v1{bare}"]
        # `/rerank` is a route of its own
        assert routes.meant_by(bare) == (bare if routes.methods_at(bare) else path)
        for spelling in spellings:
            meant = routes.meant_by(spelling)
            assert meant in (path, f"/v1{path}"), spelling
            assert routes.methods_at(meant) == routes.methods_at(path)


@pytest.mark.parametrize(
    "path",
    [
        "/v2/chat/completions",
        "/v1/chat",
        "/v1x/chat/completions",
        "/v1/../health",
        "/v1/./models",
        "/V1/models",
        "/v1/models/novels\n",
        "/nothing",
    ],
)
def test_what_is_no_slash_and_no_version_is_not_guessed(path: str) -> None:
    assert known_routes().meant_by(path) == path


async def test_requests_with_a_path_a_little_wrong_are_answered() -> None:
    client = ScriptedClient(*ANSWER)
    async with http_around(client) as http:
        for path in ("/v1//chat/completions", "/chat/completions", "/v1/v1/chat/completions/"):
            response = await http.post(path, json=CHAT)
            assert response.json()["choices"][0]["message"]["content"] == "It was a café…"
        assert (await http.get("/models//")).json()["object"] == "list"
        assert (await http.get("/v1/v1/models/novels")).json()["id"] == "novels"
    assert len(client.requests) == 3


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("/api/v1/chat/completions", "/v1/chat/completions"),
        ("/v1/chat/completions/chat/completions", "/v1/chat/completions"),
        ("/v1/chat/completion", "/v1/chat/completions"),
        ("/v1/embeding", "/v1/embeddings"),
        ("/v1/x/models", "/v1/models"),
    ],
)
async def test_an_unknown_path_names_the_near_one(path: str, near: str) -> None:
    async with http_around(ScriptedClient()) as http:
        error = (await http.post(path, json={})).json()["error"]
    assert error["code"] == "unknown_path"
    assert error["message"] == f"There is no such path: POST {path}. Did you mean {near}?"


async def test_no_spelling_of_a_path_evades_the_key() -> None:
    app = create_app(gateway_around(ScriptedClient(*ANSWER), keys=["secret"]))
    opened = set()
    async with http_to(app) as http:
        for path in [*GETS, "/v1/models/novels", "/v1/chat/completions", "/nothing"]:
            for before, behind in (("", ""), ("", "/"), ("/", ""), ("/v1", ""), ("/x", "")):
                url = f"http://127.0.0.1:8080{before}{path}{behind}"
                for method in ("GET", "HEAD", "POST", "OPTIONS", "PUT"):
                    response = await http.request(method, url)
                    if response.status_code != 401:
                        opened.add(path)
    assert opened == {"/", "/health"}


# --- methods that no route declares ---------------------------------------------------


async def test_head_is_get_without_a_body(serve: Serve) -> None:
    url = serve(create_app(gateway_around(ScriptedClient())))
    async with httpx.AsyncClient() as http:
        for path in [*GETS, "/v1/models/novels", "/models/"]:
            whole, head = await http.get(url + path), await http.head(url + path)
            assert (head.status_code, head.content) == (whole.status_code, b"")
            if path not in ("/ps", "/stats", "/metrics"):  # these are never the same twice
                assert head.headers["content-length"] == whole.headers["content-length"]
            assert head.headers["content-type"] == whole.headers["content-type"]
        missing = await http.head(f"{url}/v1/models/gpt-9")
        assert (missing.status_code, missing.content) == (404, b"")
        refused = await http.head(f"{url}/v1/chat/completions")
        assert (refused.status_code, refused.headers["allow"]) == (405, "OPTIONS, POST")


async def test_options_and_405_name_the_methods_of_a_path() -> None:
    async with http_around(ScriptedClient()) as http:
        for path, methods in (
            ("/v1/models", "GET, HEAD, OPTIONS"),
            ("/models/novels/", "GET, HEAD, OPTIONS"),
            ("/infill", "OPTIONS, POST"),
        ):
            response = await http.options(path)
            assert (response.status_code, response.content) == (204, b"")
            assert response.headers["allow"] == methods
            refused = await http.delete(path)
            assert (refused.status_code, refused.headers["allow"]) == (405, methods)
            assert methods in refused.json()["error"]["message"]
        assert (await http.options("/v1/nothing")).status_code == 404


def test_the_methods_of_two_routes_at_one_path_are_named_together() -> None:
    def answer() -> None: ...

    routes = KnownRoutes(
        [
            Route("/v1/x/{name}", answer, methods=["GET"]),
            Route("/v1/x/{name:path}", answer, methods=["DELETE"]),
        ]
    )
    assert routes.methods_at("/v1/x/a") == {"GET", "DELETE"}
    assert routes.methods_at("/v1/x/a/b") == {"DELETE"}
    assert routes.methods_at("/v1/x/") == set()


# --- what listens here ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/html; charset=utf-8"),
        ("*/*", "text/plain; charset=utf-8"),
        ("application/json", "application/json"),
    ],
)
@pytest.mark.parametrize("path", ["/", "/v1", "/v1/"])
async def test_a_browser_or_a_probe_is_told_what_listens_here(
    accept: str, kind: str, path: str
) -> None:
    app = create_app(gateway_around(ScriptedClient(), keys=["secret"]))
    async with http_to(app, accept=accept) as http:
        response = await http.get(path)
        assert (await http.post(path, json={})).status_code == 405
    assert (response.status_code, response.headers["content-type"]) == (200, kind)
    assert "/v1/models" in response.text
    assert "novels" not in response.text
    assert response.text.startswith("Ollama is running\n") is (kind.startswith("text/plain"))


async def test_routes_that_somebody_adds_are_reached_as_they_are() -> None:
    app: FastAPI = create_app(gateway_around(ScriptedClient()))

    @app.get("/added//twice/")
    async def added() -> dict[str, Any]:
        return {"added": True}

    async with http_to(app) as http:
        assert (await http.get("/added//twice/")).json() == {"added": True}
        refused = await http.post("/added//twice/", json={})
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET")

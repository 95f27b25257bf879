"""Keys with limits, at every door: refusals in its shape, headers that tell what is left,
and models that are not there for a key.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest

from appliance.api.app import create_app
from appliance.api.door.limits import duration_text
from appliance.gateway.accounts.admission import Admission
from appliance.gateway.accounts.caller import CallerLimits
from appliance.gateway.accounts.key_records import KeyTerms
from appliance.gateway.accounts.keyring import Keyring
from appliance.gateway.accounts.quotas import Quotas
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.router import Router, ServedModel
from appliance.protocol.events import AskResult
from tests.api.scripted_client import ANSWER, CREATED, ScriptedClient, http_to
from tests.api.serving import Serve
from tests.api.websocket.asgi_socket import connected
from tests.gateway.accounts.clock import Clock
from tests.gateway.accounts.made_keys import MadeKeys

HELLO = [{"role": "user", "content": "Hello"}]
TERMS = {
    "free": KeyTerms(),
    "limited": KeyTerms(
        limits=CallerLimits(requests_per_minute=2, tokens_per_minute=3000, tokens_per_day=5000)
    ),
    "one": KeyTerms(limits=CallerLimits(requests_per_minute=1)),
    "alone": KeyTerms(limits=CallerLimits(concurrent_requests=1)),
    "novelist": KeyTerms(limits=CallerLimits(models=("novels",))),
    "poet": KeyTerms(limits=CallerLimits(models=("short",))),
    "nobody": KeyTerms(limits=CallerLimits(models=("gone",))),
}


class House:
    """An application with two models and the keys of `TERMS`."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.made = MadeKeys(TERMS)
        self.keyring = Keyring(self.made.records, clocks=self.clock.clocks)
        self.clients = {name: ScriptedClient(*ANSWER) for name in ("novels", "poems")}
        router = Router(
            [
                ServedModel(id="novels", client=self.clients["novels"], created=CREATED),
                ServedModel(
                    id="poems", client=self.clients["poems"], created=CREATED, aliases=("short",)
                ),
            ]
        )
        self.gateway = Gateway(
            router, Admission(["file-key"], self.keyring), quotas=Quotas(clocks=self.clock.clocks)
        )
        self.app = create_app(self.gateway)

    def http(self, name: str, header: str = "authorization") -> httpx.AsyncClient:
        key = self.made.keys.get(name, name)
        value = f"Bearer {key}" if header == "authorization" else key
        return http_to(self.app, **{header: value})

    def update(self) -> None:
        """As the look at the file does."""
        self.keyring.replace(self.made.records)


@pytest.fixture
def house() -> House:
    return House()


# --- who gets in ----------------------------------------------------------------------


@pytest.mark.parametrize("header", ["authorization", "x-api-key", "api-key"])
async def test_a_key_that_was_made_is_taken_in_every_header(house: House, header: str) -> None:
    async with house.http("free", header) as http:
        response = await http.post("/v1/chat/completions", json={"messages": HELLO})
    assert response.status_code == 200
    assert not [name for name in response.headers if name.startswith("x-ratelimit")]


async def test_a_key_of_the_file_is_taken_beside_them(house: House) -> None:
    async with house.http("file-key") as http:
        assert (await http.get("/v1/models")).status_code == 200


async def test_a_revoked_key_is_told_so(house: House) -> None:
    house.made.revoke("free")
    house.update()
    async with house.http("free") as http:
        response = await http.get("/v1/models")
    assert response.status_code == 401
    assert response.json()["error"]["code"] == "invalid_api_key"
    assert "The API key 'free' was revoked on 1970-01-01" in response.json()["error"]["message"]


@pytest.mark.parametrize("act", ["revoke", "rotate"])
async def test_an_open_websocket_ends_with_its_key(house: House, act: str) -> None:
    key = house.made.keys["free"]
    headers = [("authorization", f"Bearer {key}")]
    chat = {"type": "chat", "id": "a", "body": {"messages": HELLO, "stream": False}}
    async with connected(house.app, headers=headers) as socket:
        socket.say(chat)
        heard = [message["type"] for message in await socket.hear_to_end("a")]
        assert heard == ["start", "record", "done"]
        getattr(house.made, act)("free")
        house.update()
        socket.say({**chat, "id": "b"})
        [failed] = await socket.hear_to_end("b")
    assert (failed["type"], failed["data"]["error"]["code"]) == ("error", "invalid_api_key")


# --- what is left ---------------------------------------------------------------------


async def test_headers_tell_what_is_left(house: House) -> None:
    async with house.http("limited") as http:
        response = await http.post(
            "/v1/chat/completions", json={"messages": HELLO, "max_tokens": 100}
        )
        assert response.status_code == 200
        # 5 of the prompt and 5 of the answer, as the model counts them
        assert {
            name.removeprefix("x-ratelimit-"): value
            for name, value in response.headers.items()
            if name.startswith("x-ratelimit-")
        } == {
            "limit-requests": "2",
            "remaining-requests": "1",
            "reset-requests": "30s",
            "limit-tokens": "3000",
            "remaining-tokens": "2990",
            "reset-tokens": "200ms",
            "limit-tokens-day": "5000",
            "remaining-tokens-day": "4990",
            "reset-tokens-day": "12h0m0s",
        }
        async with http.stream(
            "POST", "/v1/chat/completions", json={"messages": HELLO, "stream": True}
        ) as stream:
            # nothing is settled yet, and 1024 are reserved for an answer without a limit
            assert stream.headers["x-ratelimit-remaining-tokens"] == str(2990 - 5 - 1024)
            await stream.aread()
        refused = await http.post("/v1/chat/completions", json={"messages": HELLO})
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "30"
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"
        assert refused.headers["x-ratelimit-remaining-tokens"] == "2980"
        house.clock.go_on(30)
        again = await http.post("/v1/chat/completions", json={"messages": HELLO})
        assert again.status_code == 200


@pytest.mark.parametrize(
    ("duration_s", "text"),
    [
        (0, "0ms"),
        (0.0001, "1ms"),
        (0.12, "120ms"),
        (1, "1s"),
        (1.5, "1.5s"),
        (60, "1m0s"),
        (92.25, "1m32.25s"),
        (43_200, "12h0m0s"),
        (3725, "1h2m5s"),
    ],
)
def test_durations_as_openai_writes_them(duration_s: float, text: str) -> None:
    assert duration_text(duration_s) == text


DOORS: list[tuple[str, dict[str, Any], tuple[str | int, ...], str]] = [
    ("/v1/chat/completions", {"messages": HELLO}, ("error", "code"), "rate_limit_exceeded"),
    ("/v1/completions", {"prompt": "a"}, ("error", "code"), "rate_limit_exceeded"),
    ("/v1/responses", {"input": "a"}, ("error", "code"), "rate_limit_exceeded"),
    (
        "/v1/messages",
        {"model": "novels", "messages": HELLO, "max_tokens": 5},
        ("error", "type"),
        "rate_limit_error",
    ),
    ("/completion", {"prompt": "a"}, ("error", "reason"), "rate_limit_exceeded"),
    ("/infill", {"input_prefix": "a", "input_suffix": "b"}, ("error", "code"), "429"),
    ("/api/chat", {"model": "novels", "messages": HELLO}, ("error",), "requests a minute"),
    ("/api/generate", {"model": "novels", "prompt": "a"}, ("error",), "requests a minute"),
    ("/v1/embeddings", {"input": "a"}, ("error", "code"), "rate_limit_exceeded"),
    ("/v1/rerank", {"query": "a", "documents": ["b"]}, ("error", "code"), "rate_limit_exceeded"),
    ("/api/embed", {"model": "novels", "input": "a"}, ("error",), "requests a minute"),
]


@pytest.mark.parametrize(("path", "body", "at", "words"), DOORS, ids=lambda value: str(value)[:24])
async def test_every_door_refuses_in_its_own_shape(
    house: House, path: str, body: dict[str, Any], at: tuple[str | int, ...], words: str
) -> None:
    async with house.http("one") as http:
        first = await http.post("/v1/chat/completions", json={"messages": HELLO})
        assert first.status_code == 200
        for stream in (False, True):
            response = await http.post(path, json={**body, "stream": stream})
            assert response.status_code == 429, response.text
            assert response.headers["retry-after"] == "60"
            found: Any = response.json()
            for name in at:
                found = found[name]
            assert words in str(found)
    assert len(house.clients["novels"].requests) == 1


async def test_several_choices_are_so_many_requests_or_none(house: House) -> None:
    async with house.http("limited") as http:
        refused = await http.post("/v1/chat/completions", json={"messages": HELLO, "n": 3})
        assert refused.status_code == 400, "waiting would not help"
        assert "asks for 3 answers" in refused.json()["error"]["message"]
        assert refused.headers["x-ratelimit-remaining-requests"] == "2"
        assert refused.headers["x-ratelimit-remaining-tokens"] == "3000"
        answered = await http.post(
            "/v1/chat/completions", json={"messages": HELLO, "n": 2, "max_tokens": 9}
        )
        assert answered.status_code == 200
        assert answered.headers["x-ratelimit-remaining-requests"] == "0"
        # until both fit, not only the first one
        again = await http.post(
            "/v1/chat/completions", json={"messages": HELLO, "n": 2, "max_tokens": 9}
        )
        assert (again.status_code, again.headers["retry-after"]) == (429, "60")
    async with house.http("alone") as http:
        refused = await http.post("/v1/completions", json={"prompt": ["a", "b"]})
        assert refused.status_code == 400
        assert "may have 1 requests in flight" in refused.json()["error"]["message"]
    assert house.gateway.num_requests == 0


async def test_questions_are_not_counted(house: House) -> None:
    house.clients["novels"].answer = AskResult(1, tokens=[1, 2])
    async with house.http("one") as http:
        for _ in range(3):
            assert (await http.post("/tokenize", json={"content": "a"})).status_code == 200
        response = await http.get("/v1/models")
        assert response.headers["x-ratelimit-remaining-requests"] == "1"


async def test_requests_in_flight_are_counted_until_they_end(house: House) -> None:
    gate = asyncio.Event()
    house.clients["novels"]._steps = (*ANSWER[:2], gate, *ANSWER[2:])
    async with house.http("alone") as http:
        waiting = asyncio.create_task(http.post("/v1/completions", json={"prompt": "a"}))
        await house.clients["novels"].reached_wait.wait()
        refused = await http.post("/v1/completions", json={"prompt": "a"})
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        gate.set()
        assert (await waiting).status_code == 200
        assert (await http.post("/v1/completions", json={"prompt": "a"})).status_code == 200


# --- models ---------------------------------------------------------------------------

LISTS: list[tuple[str, dict[str, str], str]] = [
    ("/v1/models", {}, "data"),
    ("/v1/models", {"anthropic-version": "2023-06-01"}, "data"),
    ("/api/tags", {}, "models"),
    ("/ps", {}, "models"),
]


@pytest.mark.parametrize(("path", "headers", "field"), LISTS)
async def test_lists_show_only_what_a_key_may_use(
    house: House, path: str, headers: dict[str, str], field: str
) -> None:
    shown = {}
    for name in ("free", "novelist", "poet", "nobody"):
        async with house.http(name) as http:
            response = await http.get(path, headers=headers)
        listed = response.json()[field]
        shown[name] = [
            (model.get("id") or model["name"]).removesuffix(":latest") for model in listed
        ]
    assert shown == {
        "free": ["novels", "poems"],
        "novelist": ["novels"],
        "poet": ["poems"],
        "nobody": [],
    }


@pytest.mark.parametrize(
    ("path", "body", "_at", "_words"), DOORS, ids=lambda value: str(value)[:24]
)
async def test_other_models_are_not_there(
    house: House, path: str, body: dict[str, Any], _at: object, _words: str
) -> None:
    async with house.http("novelist") as http:
        for name in ("poems", "short", "never heard of"):
            response = await http.post(path, json={**body, "model": name})
            assert response.status_code == 404, response.text
            assert "poems'" not in response.text.replace(f"'{name}'", "")
    assert [client.requests for client in house.clients.values()] == [[], []]


async def test_the_first_model_that_a_key_may_use_is_its_default(house: House) -> None:
    async with house.http("poet") as http:
        response = await http.post("/v1/chat/completions", json={"messages": HELLO})
    assert response.json()["model"] == "poems"
    async with house.http("nobody") as http:
        response = await http.post("/v1/chat/completions", json={"messages": HELLO})
    assert response.status_code == 404
    assert response.json()["error"]["message"] == ("This API key may use none of the models here.")


async def test_a_key_for_some_models_changes_none_and_sees_no_details(house: House) -> None:
    async with house.http("novelist") as http:
        for method, path, body in (
            ("POST", "/api/pull", {"model": "org/repo", "stream": False}),
            ("POST", "/api/create", {"model": "a", "from": "novels", "stream": False}),
            ("POST", "/api/copy", {"source": "novels", "destination": "a"}),
            ("DELETE", "/api/delete", {"model": "novels"}),
        ):
            response = await http.request(method, path, json=body)
            assert response.status_code == 403, response.text
            assert response.json()["error"].startswith("This API key may use some models only")
        assert (await http.get("/health")).json() == {"status": "ok"}
    async with house.http("free") as http:
        assert len((await http.get("/health")).json()["models"]) == 2


async def test_what_a_websocket_was_opened_for_may_change(house: House) -> None:
    headers = [("x-api-key", house.made.keys["novelist"])]
    body = {"messages": HELLO, "stream": False, "model": "poems"}
    async with connected(house.app, headers=headers) as socket:
        socket.say({"type": "chat", "id": "a", "body": body})
        [failed] = await socket.hear_to_end("a")
    assert (failed["type"], failed["data"]["error"]["code"]) == ("error", "model_not_found")


# --- OpenAI's client ------------------------------------------------------------------


@pytest.fixture
async def api(house: House, serve: Serve) -> AsyncIterator[openai.AsyncOpenAI]:
    url = f"{serve(house.app)}/v1"
    key = house.made.keys["one"]
    async with openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=0) as api:
        yield api


async def test_openais_client_raises_what_it_knows(api: openai.AsyncOpenAI) -> None:
    raw = await api.chat.completions.with_raw_response.create(model="novels", messages=HELLO)  # type: ignore[arg-type]
    assert raw.headers["x-ratelimit-remaining-requests"] == "0"
    with pytest.raises(openai.RateLimitError) as raised:
        await api.chat.completions.create(model="novels", messages=HELLO)  # type: ignore[arg-type]
    assert raised.value.response.headers["retry-after"] == "60"
    assert raised.value.code == "rate_limit_exceeded"
    assert json.loads(raised.value.response.text)["error"]["type"] == "rate_limit_error"

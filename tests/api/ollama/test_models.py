"""Lists, details and embeddings under Ollama's names."""

from __future__ import annotations

import struct
from typing import Any

import httpx
import pytest

from appliance.api.app import create_app
from appliance.api.ollama.models import parameter_size
from appliance.api.ollama.names import listed_name, resolve
from appliance.errors import ModelNotFound
from appliance.gateway.accounts.admission import Admission
from appliance.gateway.library.facts import ModelDefaults, ModelFacts
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.router import Router, ServedModel
from appliance.protocol.events import EmbedResult
from appliance.protocol.requests import EmbedRequest, TextPrompt
from tests.api.ollama.talk import HELLO, post
from tests.api.scripted_client import ANSWER, CREATED, ScriptedClient, http_to

FACTS = ModelFacts(
    architecture="llama",
    num_params=6_000_000,
    quantization="Q4_K_M",
    num_bytes=4_000_000,
    digest="ab" * 32,
    modified_s=1_700_000_000.0,
    licence="mit",
    chat_template="{{ messages }}{% if enable_thinking %}",
    train_ctx=4096,
    metadata={"general.architecture": "llama", "llama.context_length": 4096, "a.list": None},
)
DEFAULTS = ModelDefaults(
    parent="novels", system="Be brief.", parameters={"temperature": 0.0, "stop": ["a", "b"]}
)
DETAILS = {
    "parent_model": "novels",
    "format": "gguf",
    "family": "llama",
    "families": ["llama"],
    "parameter_size": "6.0M",
    "quantization_level": "Q8_0",
}


class KnowingLibrary:
    async def facts(self, model_id: str) -> ModelFacts:
        assert model_id == "tale"
        return FACTS


def http_around_tale(client: ScriptedClient) -> httpx.AsyncClient:
    model = ServedModel(id="tale", client=client, created=CREATED, defaults=DEFAULTS)
    gateway = Gateway(Router([model]), Admission(), library=KnowingLibrary())
    return http_to(create_app(gateway))


async def get(path: str, client: ScriptedClient | None = None) -> Any:
    async with http_around_tale(client or ScriptedClient()) as http:
        response = await http.get(f"/api/{path}")
    assert response.status_code == 200, response.text
    return response.json()


async def test_models_are_listed_with_a_tag() -> None:
    assert await get("tags") == {
        "models": [
            {
                "name": "tale:latest",
                "model": "tale:latest",
                "modified_at": "2023-11-14T22:13:20.000000Z",
                "size": 4_000_000,
                "digest": "ab" * 32,
                "details": DETAILS,
                "capabilities": ["completion", "tools", "thinking"],
            }
        ]
    }


async def test_loaded_models_are_those_that_run() -> None:
    [running] = (await get("ps"))["models"]
    assert running.pop("expires_at").endswith("Z")
    assert running == {
        "name": "tale:latest",
        "model": "tale:latest",
        "size": 4_000_000,
        "digest": "ab" * 32,
        "details": DETAILS,
        "size_vram": 0,
        "context_length": 2048,
    }


async def test_a_version_is_three_numbers() -> None:
    version = (await get("version"))["version"]
    assert [part.isdecimal() for part in version.split(".")] == [True, True, True]


async def test_no_model_runs_elsewhere() -> None:
    assert await get("status") == {"cloud": {"disabled": True, "source": "config"}}


async def test_a_model_is_shown() -> None:
    async with http_around_tale(ScriptedClient()) as http:
        shown = (await http.post("/api/show", json={"name": "tale"})).json()
    assert shown == {
        "modelfile": "FROM novels\n"
        'TEMPLATE """{{ messages }}{% if enable_thinking %}"""\n'
        'SYSTEM """Be brief."""\n'
        "PARAMETER num_ctx                        2048\n"
        "PARAMETER temperature                    0\n"
        'PARAMETER stop                           "a"\n'
        'PARAMETER stop                           "b"\n',
        "parameters": "num_ctx                        2048\n"
        "temperature                    0\n"
        'stop                           "a"\n'
        'stop                           "b"',
        "template": "{{ messages }}{% if enable_thinking %}",
        "system": "Be brief.",
        "license": "mit",
        "details": DETAILS,
        "model_info": {
            "general.architecture": "llama",
            "llama.context_length": 2048,
            "a.list": None,
            "general.parameter_count": 6_000_000,
        },
        "capabilities": ["completion", "tools", "thinking"],
        "modified_at": "2023-11-14T22:13:20.000000Z",
    }


async def test_a_models_own_system_message_and_parameters_come_first() -> None:
    client = ScriptedClient(*ANSWER)
    other = {"role": "system", "content": "Be long."}
    async with http_around_tale(client) as http:
        for messages, options in (([HELLO], {}), ([other, HELLO], {"temperature": 1, "stop": []})):
            body = {"messages": messages, "options": options, "stream": False}
            assert (await http.post("/api/chat", json=body)).status_code == 200
    own, given = client.requests
    assert own.prompt.messages[0] == {"role": "system", "content": "Be brief."}
    assert (own.sampling.temperature, own.stop) == (0.0, ["a", "b"])
    assert given.prompt.messages == [other, HELLO]
    assert (given.sampling.temperature, given.stop) == (1.0, [])


@pytest.mark.parametrize(
    ("num_params", "words"),
    [(0, ""), (999, "999"), (6_000_000, "6.0M"), (135_000_000, "135M"), (8_030_000_000, "8.0B")],
)
def test_sizes_in_words(num_params: int, words: str) -> None:
    assert parameter_size(num_params) == words


# --- names ----------------------------------------------------------------------------


def router_of(*names: str) -> Router:
    return Router(
        [
            ServedModel(id=name, client=ScriptedClient(), created=1, aliases=(f"org/{name}:Q4_0",))
            for name in names
        ]
    )


@pytest.mark.parametrize(
    "name",
    [
        "tale",
        "tale:latest",
        "Tale:latest",
        "org/tale:Q4_0",
        "hf.co/org/tale:q4_0",
        "https://huggingface.co/org/tale:Q4_0",
    ],
)
def test_names_of_one_model(name: str) -> None:
    assert resolve(router_of("novels", "tale"), name).id == "tale"


@pytest.mark.parametrize("name", [None, ""])
def test_no_name_is_the_first_model(name: str | None) -> None:
    assert resolve(router_of("novels", "tale"), name).id == "novels"


@pytest.mark.parametrize("name", ["tales", "tale:7b", "other/tale:Q4_0"])
def test_other_names_are_not_found(name: str) -> None:
    with pytest.raises(ModelNotFound, match=f"model '{name}' not found"):
        resolve(router_of("novels", "tale"), name)


def test_a_name_with_a_tag_is_listed_as_it_is() -> None:
    assert [listed_name(name) for name in ("tale", "tale:Q8_0")] == ["tale:latest", "tale:Q8_0"]


# --- embeddings -----------------------------------------------------------------------


async def test_embeddings() -> None:
    client = ScriptedClient()
    client.embedded = EmbedResult(1, struct.pack("<4f", 0.5, 0.25, 1.0, 0.0), 2, 7)
    response = await post(client, "embed", model="novels", input=["a", "b"], truncate=True)
    answer = response.json()
    assert answer["embeddings"] == [[0.5, 0.25], [1.0, 0.0]]
    assert (answer["model"], answer["prompt_eval_count"]) == ("novels", 7)
    assert 0 <= answer["load_duration"] <= answer["total_duration"]
    assert client.embed_requests == [EmbedRequest([TextPrompt("a"), TextPrompt("b")])]
    one = await post(client, "embed", input="a", dimensions=1)
    assert one.json()["embeddings"] == [[1.0], [1.0]]


async def test_the_older_form_of_embeddings() -> None:
    client = ScriptedClient()
    client.embedded = EmbedResult(1, struct.pack("<2f", 0.5, 0.25), 2, 3)
    response = await post(client, "embeddings", prompt="a", keep_alive=60)
    assert response.json() == {"embedding": [0.5, 0.25]}
    assert client.embed_requests == [EmbedRequest([TextPrompt("a")], keep_alive_s=60.0)]


@pytest.mark.parametrize(
    ("path", "answer"), [("embed", {"embeddings": []}), ("embeddings", {"embedding": []})]
)
async def test_nothing_is_embedded_where_there_is_no_text(
    path: str, answer: dict[str, Any]
) -> None:
    client = ScriptedClient()
    response = await post(client, path)
    assert answer.items() <= response.json().items()
    assert client.embed_requests == []

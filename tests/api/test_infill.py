"""/infill and `suffix`: what is asked of the worker, and how llama.cpp's answers read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from appliance.engine.sequence import FinishReason, SamplingParams
from appliance.worker.messages import Delta, Finished, GenerateRequest, InfillPrompt, SourceFile, Started, Usage
from tests.api.scripted_client import ANSWER, ScriptedClient, http_around

GAP: dict[str, Any] = {"input_prefix": "def f(", "input_suffix": "):\n"}


async def post(client: ScriptedClient, fields: dict[str, Any], path: str = "/infill") -> Any:
    async with http_around(client) as http:
        return await http.post(path, json=fields)


async def test_every_field_reaches_the_worker() -> None:
    client = ScriptedClient(*ANSWER)
    fields = {
        "prompt": "a",
        "input_extra": [{"filename": "b.py", "text": "x = 1"}, {"text": "y"}],
        "spm_infill": True,
        "n_predict": 7,
        "temperature": 0,
        "stop": ["\n"],
        "id_slot": -1,
    }
    response = await post(client, {**GAP, **fields})
    assert response.status_code == 200, response.text
    files = [SourceFile("b.py", "x = 1"), SourceFile("tmp", "y")]
    prompt = InfillPrompt("def f(", "):\n", "a", files, True, "input_suffix")
    assert client.requests == [GenerateRequest(prompt, SamplingParams(temperature=0), 7, ["\n"])]


@pytest.mark.parametrize(("fields", "most"), [({}, None), ({"n_predict": -1}, None), ({"max_tokens": 5}, 5)])
async def test_an_answer_is_as_long_as_asked(fields: dict[str, int], most: int | None) -> None:
    client = ScriptedClient(*ANSWER)
    await post(client, {**GAP, **fields})
    [asked] = client.requests
    assert asked.max_tokens == most


async def test_the_whole_answer_has_llama_servers_shape() -> None:
    body = (await post(ScriptedClient(*ANSWER), {**GAP, "top_k": 3})).json()
    settings = body.pop("generation_settings")
    assert (settings["top_k"], settings["min_p"], settings["n_predict"], settings["stream"]) == (3, 0.05, -1, False)
    assert body == {
        "index": 0,
        "content": "It was a café…",
        "tokens": [],
        "stop": True,
        "model": "novels",
        "tokens_predicted": 5,
        "tokens_evaluated": 5,
        "tokens_cached": 2,
        "truncated": False,
        "stop_type": "eos",
        "stopping_word": "",
        "timings": {"cache_n": 2, "prompt_n": 3, "predicted_n": 5},
    }


async def test_a_stream_ends_with_all_fields_and_without_done() -> None:
    text = (await post(ScriptedClient(*ANSWER), {**GAP, "stream": True})).text
    *pieces, last = [json.loads(line.removeprefix("data: ")) for line in text.split("\n\n") if line]
    assert pieces == [
        {"index": 0, "content": content, "tokens": [], "stop": False} for content in ("It was", " a café…")
    ]
    assert (last["content"], last["stop"], last["stop_type"], last["tokens_predicted"]) == ("", True, "eos", 5)


@pytest.mark.parametrize(
    ("reason", "stop_string", "told"),
    [
        (FinishReason.STOP, "", ("eos", "")),
        (FinishReason.STOP, "\n", ("word", "\n")),
        (FinishReason.LENGTH, "", ("limit", "")),
    ],
)
async def test_why_an_answer_ended(reason: FinishReason, stop_string: str, told: tuple[str, str]) -> None:
    finished = Finished(1, reason, Usage(1, 0, 1), stop_string=stop_string)
    body = (await post(ScriptedClient(Started(1, 1), Delta(1, "x", 1), finished), GAP)).json()
    assert (body["stop_type"], body["stopping_word"]) == told


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input_prefix": "x"}, "input_suffix"),
        ({**GAP, "input_extra": [{"name": "x"}]}, "input_extra[0].name"),
        ({**GAP, "n": 2}, "n"),
        ({**GAP, "n_predict": -2}, "n_predict"),
        ({**GAP, "samplers": ["infill"]}, "samplers"),
        ({**GAP, "nonsense": 1}, "nonsense"),
    ],
)
async def test_what_is_wrong_is_named(fields: dict[str, Any], param: str) -> None:
    response = await post(ScriptedClient(*ANSWER), fields)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


async def test_a_completion_with_a_suffix_fills_the_gap() -> None:
    client = ScriptedClient(*ANSWER)
    response = await post(client, {"prompt": ["a", "b"], "suffix": " end"}, "/v1/completions")
    assert response.status_code == 200, response.text
    asked = [request.prompt for request in client.requests]
    assert asked == [InfillPrompt(text, " end", param="suffix") for text in ("a", "b")]

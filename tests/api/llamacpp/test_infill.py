"""/infill and `suffix`: what is asked of the worker,
and how llama.cpp's answers read.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from appliance.protocol.events import Delta, Finished, FinishReason, Started, Times, Usage
from appliance.protocol.requests import GenerateRequest, InfillPrompt, SourceFile
from appliance.protocol.sampling import SamplingParams
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
    prompt = InfillPrompt(
        prefix="def f(",
        suffix="):\n",
        prefill="a",
        files=files,
        is_suffix_first=True,
        param="input_suffix",
    )
    assert client.requests == [
        GenerateRequest(
            prompt=prompt,
            sampling=SamplingParams(temperature=0),
            max_tokens=7,
            stop=["\n"],
            includes_times=True,
        )
    ]


# As llama.vim and llama.vscode send it while somebody types, and beforehand for what
# may soon be the context.
EDITOR: dict[str, Any] = {
    "id_slot": 0,
    "input_prefix": "def f(",
    "input_suffix": "):\n",
    "input_extra": [{"text": "x = 1", "time": [12, 345], "filename": "b.py"}],
    "prompt": "    a",
    "n_predict": 128,
    "stop": [],
    "n_indent": 4,
    "top_k": 40,
    "top_p": 0.9,
    "samplers": ["top_k", "top_p", "infill"],
    "stream": False,
    "cache_prompt": True,
    "t_max_prompt_ms": 500,
    "t_max_predict_ms": 1000,
    "response_fields": [
        "content",
        "timings/prompt_n",
        "timings/predicted_per_second",
        "truncated",
        "nothing/of/it",
    ],
}
WARMING: dict[str, Any] = {
    "input_prefix": "",
    "input_suffix": "",
    "input_extra": [{"text": "x = 1", "time": [12, 345], "filename": "b.py"}],
    "prompt": "",
    "n_predict": 0,
    "temperature": 0.0,
    "samplers": [],
    "t_max_prompt_ms": 1,
    "t_max_predict_ms": 1,
    "response_fields": [""],
}


async def test_an_editors_request_is_understood_and_only_the_fields_it_wants_come_back() -> None:
    usage = Usage(
        num_prompt_tokens=5, num_cached_tokens=2, num_completion_tokens=5, times=Times(30.0, 100.0)
    )
    client = ScriptedClient(
        Started(1, 5),
        Delta(request_id=1, text="b", num_tokens=5),
        Finished(request_id=1, reason=FinishReason.STOP, usage=usage),
    )
    response = await post(client, EDITOR)
    assert response.json() == {
        "content": "b",
        "timings/prompt_n": 3,
        "timings/predicted_per_second": 50.0,
        "truncated": False,
    }
    [asked] = client.requests
    assert (asked.min_indent, asked.max_text_ms, asked.max_tokens) == (4, 1000, 128)
    # What is not named is off: there is no temperature but 1.
    named = ("top_k", "top_p", "infill")
    assert asked.sampling == SamplingParams(
        temperature=1.0, top_k=40, top_p=0.9, min_p=0.0, samplers=named
    )
    assert (await post(client, WARMING)).json() == {}
    assert client.requests[1].sampling == SamplingParams(
        temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, samplers=()
    )
    assert (client.requests[1].max_tokens, client.requests[1].max_text_ms) == (0, 1)


async def test_a_stream_has_the_wanted_fields_at_its_end() -> None:
    text = (
        await post(
            ScriptedClient(*ANSWER), {**GAP, "stream": True, "response_fields": ["stop_type"]}
        )
    ).text
    *pieces, last = [json.loads(line.removeprefix("data: ")) for line in text.split("\n\n") if line]
    assert [piece["content"] for piece in pieces] == ["It was", " a café…"]
    assert last == {"stop_type": "eos"}


@pytest.mark.parametrize(
    ("fields", "most"), [({}, None), ({"n_predict": -1}, None), ({"max_tokens": 5}, 5)]
)
async def test_an_answer_is_as_long_as_asked(fields: dict[str, int], most: int | None) -> None:
    client = ScriptedClient(*ANSWER)
    await post(client, {**GAP, **fields})
    [asked] = client.requests
    assert asked.max_tokens == most


async def test_the_whole_answer_has_llama_servers_shape() -> None:
    end = Finished(
        request_id=1,
        reason=FinishReason.STOP,
        usage=Usage(
            num_prompt_tokens=5,
            num_cached_tokens=2,
            num_completion_tokens=5,
            times=Times(30.0, 100.0),
        ),
    )
    body = (await post(ScriptedClient(*ANSWER[:-1], end), {**GAP, "top_k": 3})).json()
    settings = body.pop("generation_settings")
    assert (settings["top_k"], settings["min_p"], settings["n_predict"], settings["stream"]) == (
        3,
        0.05,
        -1,
        False,
    )
    assert body == {
        "index": 0,
        "content": "It was a café…",
        "tokens": [],
        "id_slot": -1,
        "stop": True,
        "has_new_line": False,
        "model": "novels",
        "tokens_predicted": 5,
        "tokens_evaluated": 5,
        "tokens_cached": 2,
        "truncated": False,
        "stop_type": "eos",
        "stopping_word": "",
        "timings": {
            "cache_n": 2,
            "prompt_n": 3,
            "prompt_ms": 30.0,
            "prompt_per_token_ms": 10.0,
            "prompt_per_second": 100.0,
            "predicted_n": 5,
            "predicted_ms": 100.0,
            "predicted_per_token_ms": 20.0,
            "predicted_per_second": 50.0,
        },
    }


async def test_a_stream_ends_with_all_fields_and_without_done() -> None:
    text = (await post(ScriptedClient(*ANSWER), {**GAP, "stream": True})).text
    *pieces, last = [json.loads(line.removeprefix("data: ")) for line in text.split("\n\n") if line]
    assert pieces == [
        {"index": 0, "content": content, "tokens": [], "id_slot": -1, "stop": False}
        for content in ("It was", " a café…")
    ]
    assert (last["content"], last["stop"], last["stop_type"], last["tokens_predicted"]) == (
        "",
        True,
        "eos",
        5,
    )


@pytest.mark.parametrize(
    ("reason", "stop_string", "expected"),
    [
        (FinishReason.STOP, "", ("eos", "")),
        (FinishReason.STOP, "\n", ("word", "\n")),
        (FinishReason.LENGTH, "", ("limit", "")),
    ],
)
async def test_why_an_answer_ended(
    reason: FinishReason, stop_string: str, expected: tuple[str, str]
) -> None:
    finished = Finished(
        request_id=1,
        reason=reason,
        usage=Usage(num_prompt_tokens=1, num_cached_tokens=0, num_completion_tokens=1),
        stop_string=stop_string,
    )
    body = (
        await post(
            ScriptedClient(Started(1, 1), Delta(request_id=1, text="x", num_tokens=1), finished),
            GAP,
        )
    ).json()
    assert (body["stop_type"], body["stopping_word"]) == expected


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input_prefix": "x"}, "input_suffix"),
        ({**GAP, "input_extra": [{"name": "x"}]}, "input_extra[0].name"),
        ({**GAP, "n": 2}, "n"),
        ({**GAP, "n_predict": -2}, "n_predict"),
        ({**GAP, "samplers": ["infill"]}, "samplers"),
        ({**GAP, "samplers": ["infill", "top_k"]}, "samplers"),
        ({**GAP, "samplers": ["top_k", "infill"], "top_k": 257}, "samplers"),
        ({**GAP, "samplers": ["top_k", "infill"], "top_k": -1}, "samplers"),
        ({**GAP, "samplers": ["top_k", "infill"], "top_k": 0}, "samplers"),
        ({**GAP, "samplers": ["top_k", "top_k"]}, "samplers"),
        ({**GAP, "samplers": ["adaptive_p"]}, "samplers[0]"),
        ({**GAP, "n_indent": -1}, "n_indent"),
        ({**GAP, "response_fields": "content"}, "response_fields"),
        ({**GAP, "n_probs": -1}, "n_probs"),
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
    assert asked == [
        InfillPrompt(prefix=text, suffix=" end", param="suffix") for text in ("a", "b")
    ]

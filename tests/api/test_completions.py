"""Completions: every form of prompt, and how the answer reads."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.protocol.requests import GenerateRequest, TextPrompt, TokenPrompt
from appliance.protocol.sampling import SamplingParams
from tests.api.scripted_client import ANSWER, ANSWER_USAGE, ScriptedClient, http_around
from tests.api.stream_events import events_of

PATH = "/v1/completions"


@pytest.mark.parametrize(
    ("prompt", "inside"),
    [
        ("Once", TextPrompt("Once")),
        ("", TextPrompt("")),
        (["Once"], TextPrompt("Once")),
        ([1, 2, 3], TokenPrompt([1, 2, 3])),
        ([[1, 2, 3]], TokenPrompt([1, 2, 3])),
    ],
)
async def test_every_form_of_prompt(prompt: object, inside: TextPrompt | TokenPrompt) -> None:
    client = ScriptedClient(*ANSWER)
    async with http_around(client) as http:
        response = await http.post(PATH, json={"model": "novels", "prompt": prompt})
    assert response.status_code == 200, response.text
    # 16 is OpenAI's default
    assert client.requests == [
        GenerateRequest(prompt=inside, sampling=SamplingParams(), max_tokens=16, stop=[])
    ]


@pytest.mark.parametrize(
    ("prompt", "param", "says"),
    [
        (None, "prompt", "Missing required parameter"),
        (7, "prompt", "must be a string, a list of token ids, or a list of these"),
        ([], "prompt", "at least 1 item"),
        ([[]], "prompt[0]", "at least 1 item"),
        (["one", 2], "prompt[1]", "valid string"),
        ([[1], []], "prompt[1]", "at least 1 item"),
        (["one"] * 129, "prompt", "at most 128 items"),
        ([1, "two"], "prompt[1]", "valid integer"),
        ([1, -1], "prompt[1]", "greater than or equal to 0"),
        ([2**31], "prompt[0]", "less than or equal to"),
        ([1.5], "prompt[0]", "valid integer"),
    ],
)
async def test_other_prompts_are_refused(prompt: object, param: str, says: str) -> None:
    client = ScriptedClient(*ANSWER)
    async with http_around(client) as http:
        response = await http.post(PATH, json={"prompt": prompt})
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, param)
    assert says in error["message"]
    assert client.requests == []


async def test_the_whole_answer_has_openais_shape() -> None:
    async with http_around(ScriptedClient(*ANSWER)) as http:
        body = (await http.post(PATH, json={"prompt": "Once"})).json()
    assert body.pop("id").startswith("cmpl-")
    assert body.pop("created") > 1_700_000_000
    assert body.pop("system_fingerprint").startswith("fp_")
    assert body == {
        "object": "text_completion",
        "model": "novels",
        "choices": [
            {"index": 0, "text": "It was a café…", "logprobs": None, "finish_reason": "stop"}
        ],
        "usage": ANSWER_USAGE,
    }


@pytest.mark.parametrize("include_usage", [False, True])
async def test_the_stream_has_openais_shape(include_usage: bool) -> None:
    request = {"prompt": "Once", "stream": True, "stream_options": {"include_usage": include_usage}}
    async with http_around(ScriptedClient(*ANSWER)) as http:
        *chunks, done = events_of((await http.post(PATH, json=request)).text)
    assert done == "[DONE]"
    for chunk in chunks:
        assert chunk.pop("id").startswith("cmpl-")
        assert chunk.pop("object") == "text_completion"
        assert chunk.pop("system_fingerprint").startswith("fp_")
        del chunk["created"], chunk["model"]
    usage: dict[str, Any] = {"usage": None} if include_usage else {}
    texts = [("It was", None), (" a café…", None), ("", "stop")]
    expected = [
        {
            "choices": [{"index": 0, "text": text, "logprobs": None, "finish_reason": reason}],
            **usage,
        }
        for text, reason in texts
    ]
    assert chunks == expected + ([{"choices": [], "usage": ANSWER_USAGE}] if include_usage else [])

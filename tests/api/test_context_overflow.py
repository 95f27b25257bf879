"""A prompt that is too long is refused in words that agents recognise, with the numbers
by which they shorten it, on every route that takes one.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from appliance.errors import PromptSize, PromptTooLong, from_record
from tests.api.scripted_client import ScriptedClient, http_around

# What agents look for, of openly licensed ones: pi and OpenClaw, crewAI, letta, LiteLLM,
# OpenRouter's clients. Each must find ours, whatever the case.
RECOGNISED_BY = (
    r"this model's maximum context length is",
    r"maximum context length is \d+ tokens",
    r"reduce the length of the (messages|input)",
    r"context[ _]length",
    r"max.*?(\d+) tokens.*?(\d+) ",  # the limit, then what was sent
)

MESSAGES = [{"role": "user", "content": "Hello"}]
ROUTES: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", {"messages": MESSAGES}),
    ("/v1/chat/completions", {"messages": MESSAGES, "stream": True}),
    ("/v1/chat/completions", {"messages": MESSAGES, "n": 2, "stream": True}),
    ("/v1/completions", {"prompt": "Hello"}),
    ("/v1/completions", {"prompt": ["Hello", "sea"], "stream": True}),
    ("/v1/responses", {"input": "Hello"}),
    ("/v1/responses", {"input": "Hello", "stream": True}),
    ("/infill", {"input_prefix": "a", "input_suffix": "b"}),
    ("/infill", {"input_prefix": "a", "input_suffix": "b", "stream": True}),
    ("/v1/embeddings", {"input": "Hello"}),
    ("/v1/rerank", {"query": "a", "documents": ["b"]}),
    ("/tokenize", {"content": "a"}),
    ("/completion", {"prompt": "a"}),
    ("/completion", {"prompt": "a", "stream": True}),
    ("/embedding", {"content": "a"}),
]
LLAMA_CPPS = ("/infill", "/tokenize", "/completion", "/embedding")


def refusals() -> list[PromptTooLong]:
    """As the worker's end writes them: of a prompt, of an input, of what is not even
    tokenized.
    """
    size = PromptSize(9000, 8192)
    return [
        PromptTooLong.of(9000, 8191),
        PromptTooLong.because(
            "9000 tokens are in input 3. Please reduce the length of the input.", size
        ),
    ]


@pytest.mark.parametrize(("path", "body"), ROUTES)
@pytest.mark.parametrize("refusal", refusals(), ids=["prompt", "input"])
async def test_a_prompt_too_long_is_recognised(
    path: str, body: dict[str, Any], refusal: PromptTooLong
) -> None:
    crossed = from_record(refusal.record())
    client = ScriptedClient(crossed)
    client.embedded = client.answer = crossed
    async with http_around(client) as http:
        response = await http.post(path, json=body)
    error = response.json()["error"]
    assert response.status_code == 400
    if path in LLAMA_CPPS:
        code = (error["code"], error["reason"], error["type"])
        assert code == (400, "context_length_exceeded", "exceed_context_size_error")
    else:
        code = (error["code"], error["type"])
        assert code == ("context_length_exceeded", "invalid_request_error")
    assert (error["n_prompt_tokens"], error["n_ctx"]) == (9000, 8192)
    for pattern in RECOGNISED_BY:
        assert re.search(pattern, error["message"].lower()), pattern
    found = re.search(RECOGNISED_BY[-1], error["message"])
    assert found is not None
    assert found.groups() == ("8192", "9000")


async def test_other_errors_have_no_numbers() -> None:
    async with http_around(ScriptedClient()) as http:
        response = await http.post("/v1/chat/completions", json={"messages": []})
    assert response.json()["error"].keys() == {"message", "type", "param", "code"}

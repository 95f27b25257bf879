"""Log-probabilities and several answers to one prompt, read by the unmodified `openai`
client and byte for byte.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import openai
import pytest

from appliance.api.app import create_app
from appliance.errors import DecodeFailed, QueueFull
from appliance.protocol.events import (
    AskResult,
    Delta,
    Event,
    Finished,
    FinishReason,
    LikelyToken,
    SampledToken,
    Started,
    Usage,
)
from appliance.protocol.questions import Detokenize
from appliance.protocol.requests import TextPrompt, TokenPrompt
from appliance.protocol.sampling import SamplingParams
from tests.api.scripted_client import (
    ChoosingClient,
    ScriptedClient,
    gateway_around,
    http_around,
)
from tests.api.serving import Serve
from tests.api.stream_events import events_of

HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"

IT = SampledToken(
    LikelyToken(b"It", -0.25), [LikelyToken(b"It", -0.25), LikelyToken(b"<|end|>", -2.0, True)], 0
)
E_ACUTE = [
    SampledToken(
        LikelyToken(b" \xc3", -1.5), [LikelyToken(b" a", -0.5), LikelyToken(b" \xc3", -1.5)], 2
    ),
    SampledToken(
        LikelyToken(b"\xa9", -0.125),
        [LikelyToken(b"\xa9", -0.125), LikelyToken(b"!", float("-inf"))],
        3,
    ),
]
ANSWER: tuple[Event, ...] = (
    Started(1, 5),
    Delta(request_id=1, text="It", num_tokens=1, tokens=[IT]),
    Delta(request_id=1, text=" é", num_tokens=2, tokens=E_ACUTE),
    Finished(
        request_id=1,
        reason=FinishReason.STOP,
        usage=Usage(num_prompt_tokens=5, num_cached_tokens=2, num_completion_tokens=4),
    ),
)

CHAT_LOGPROBS = [
    {
        "token": "It",
        "logprob": -0.25,
        "bytes": [73, 116],
        "top_logprobs": [
            {"token": "It", "logprob": -0.25, "bytes": [73, 116]},
            {"token": "<|end|>", "logprob": -2.0, "bytes": None},
        ],
    },
    {
        "token": " \\xc3",
        "logprob": -1.5,
        "bytes": [32, 195],
        "top_logprobs": [
            {"token": " a", "logprob": -0.5, "bytes": [32, 97]},
            {"token": " \\xc3", "logprob": -1.5, "bytes": [32, 195]},
        ],
    },
    {
        "token": "\\xa9",
        "logprob": -0.125,
        "bytes": [169],
        "top_logprobs": [
            {"token": "\\xa9", "logprob": -0.125, "bytes": [169]},
            {"token": "!", "logprob": -9999.0, "bytes": [33]},
        ],
    },
]


# --- log-probabilities ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "fields", "num_top"),
    [
        (CHAT, {}, None),
        (CHAT, {"logprobs": False, "top_logprobs": 0}, None),
        (CHAT, {"logprobs": True}, 0),
        (CHAT, {"logprobs": True, "top_logprobs": 20}, 20),
        (TEXT, {}, None),
        (TEXT, {"logprobs": 0}, 0),
        (TEXT, {"logprobs": 5}, 5),
    ],
)
async def test_they_are_computed_only_when_asked_for(
    path: str, fields: dict[str, Any], num_top: int | None
) -> None:
    client = ScriptedClient(*ANSWER)
    prompt: dict[str, Any] = {"messages": HELLO} if path == CHAT else {"prompt": "Hello"}
    async with http_around(client) as http:
        assert (await http.post(path, json={**prompt, **fields})).status_code == 200
    assert client.requests[0].sampling == SamplingParams(num_top_logprobs=num_top)


async def test_chat_whole_and_streamed(serve: Serve) -> None:
    base_url = serve(create_app(gateway_around(ScriptedClient(*ANSWER))))
    async with openai.AsyncOpenAI(base_url=f"{base_url}/v1", api_key="any", max_retries=0) as api:
        asked: dict[str, Any] = {
            "model": "novels",
            "messages": HELLO,
            "logprobs": True,
            "top_logprobs": 2,
        }
        whole = await api.chat.completions.create(**asked)
        chunks = [chunk async for chunk in await api.chat.completions.create(**asked, stream=True)]
    logprobs = whole.choices[0].logprobs
    assert logprobs is not None
    assert [token.model_dump() for token in logprobs.content or []] == CHAT_LOGPROBS
    assert logprobs.refusal is None
    streamed = [chunk.choices[0].logprobs for chunk in chunks]
    assert [each is not None for each in streamed] == [False, True, True, False]
    assert [
        token.model_dump() for each in streamed if each for token in each.content or []
    ] == CHAT_LOGPROBS


async def test_completions_whole_and_streamed(serve: Serve) -> None:
    base_url = serve(create_app(gateway_around(ScriptedClient(*ANSWER))))
    async with openai.AsyncOpenAI(base_url=f"{base_url}/v1", api_key="any", max_retries=0) as api:
        asked: dict[str, Any] = {"model": "novels", "prompt": "Hello", "logprobs": 2}
        whole = await api.completions.create(**asked)
        chunks = [chunk async for chunk in await api.completions.create(**asked, stream=True)]
    expected = {
        "tokens": ["It", "bytes:\\x20\\xc3", "bytes:\\xa9"],
        "token_logprobs": [-0.25, -1.5, -0.125],
        "top_logprobs": [
            {"It": -0.25, "<|end|>": -2.0},
            {" a": -0.5, "bytes:\\x20\\xc3": -1.5},
            {"bytes:\\xa9": -0.125, "!": -9999.0},
        ],
        "text_offset": [0, 2, 3],
    }
    logprobs = whole.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.model_dump() == expected
    streamed = [chunk.choices[0].logprobs for chunk in chunks if chunk.choices[0].logprobs]
    joined = {
        name: [entry for each in streamed for entry in each.model_dump()[name]] for name in expected
    }
    assert joined == expected


async def test_an_answer_without_tokens_still_has_the_asked_for_field() -> None:
    async with http_around(
        ScriptedClient(
            Started(1, 5),
            Finished(
                request_id=1,
                reason=FinishReason.STOP,
                usage=Usage(num_prompt_tokens=5, num_cached_tokens=0, num_completion_tokens=1),
            ),
        )
    ) as http:
        [choice] = (await http.post(CHAT, json={"messages": HELLO, "logprobs": True})).json()[
            "choices"
        ]
    assert choice["logprobs"] == {"content": [], "refusal": None}


# --- several answers ------------------------------------------------------------------


def script(text: str, num_cached: int, *more: asyncio.Event) -> tuple[Event | asyncio.Event, ...]:
    tokens = len(text)
    return (
        Started(1, 5),
        Delta(request_id=1, text=text[0], num_tokens=1),
        *more,
        Delta(request_id=1, text=text[1:], num_tokens=tokens - 1),
        Finished(
            request_id=1,
            reason=FinishReason.LENGTH,
            usage=Usage(
                num_prompt_tokens=5, num_cached_tokens=num_cached, num_completion_tokens=tokens
            ),
        ),
    )


USAGE = {
    "prompt_tokens": 5,
    "completion_tokens": 9,
    "total_tokens": 14,
    "prompt_tokens_details": {"cached_tokens": 1},
}


def scored(text: str, logprob: float) -> tuple[Event, ...]:
    token = SampledToken(LikelyToken(text.encode(), logprob), [], 0)
    return (
        Started(1, 5),
        Delta(request_id=1, text=text, num_tokens=1, tokens=[token]),
        Finished(
            request_id=1,
            reason=FinishReason.LENGTH,
            usage=Usage(num_prompt_tokens=5, num_cached_tokens=0, num_completion_tokens=1),
        ),
    )


async def test_several_prompts_have_their_answers_in_their_order_and_each_counts_once() -> None:
    client = ChoosingClient(
        script("one", 1), script("two", 4), script("three", 0), script("four", 3)
    )
    async with http_around(client) as http:
        body = (await http.post(TEXT, json={"prompt": ["a", "b"], "n": 2, "seed": 7})).json()
    assert [(c["index"], c["text"]) for c in body["choices"]] == [
        (0, "one"),
        (1, "two"),
        (2, "three"),
        (3, "four"),
    ]
    assert [(request.prompt, request.sampling.seed) for request in client.requests] == [
        (TextPrompt("a"), 7),
        (TextPrompt("a"), 8),
        (TextPrompt("b"), 7),
        (TextPrompt("b"), 8),
    ]
    assert body["usage"] == {
        "prompt_tokens": 10,
        "completion_tokens": 15,
        "total_tokens": 25,
        "prompt_tokens_details": {"cached_tokens": 1},
    }


async def test_lists_of_tokens_are_prompts_each() -> None:
    client = ChoosingClient(script("one", 1), script("two", 0))
    async with http_around(client) as http:
        assert (await http.post(TEXT, json={"prompt": [[1, 2], [3]]})).status_code == 200
    assert [request.prompt for request in client.requests] == [
        TokenPrompt([1, 2]),
        TokenPrompt([3]),
    ]


async def test_the_best_of_several_are_those_whose_tokens_are_likeliest() -> None:
    client = ChoosingClient(scored("bad", -3.0), scored("best", -0.1), scored("good", -0.5))
    async with http_around(client) as http:
        body = (await http.post(TEXT, json={"prompt": "a", "n": 2, "best_of": 3})).json()
    assert [(c["index"], c["text"], c["logprobs"]) for c in body["choices"]] == [
        (0, "best", None),
        (1, "good", None),
    ]
    assert body["usage"]["completion_tokens"] == 3, "what was computed counts"
    assert [request.sampling.num_top_logprobs for request in client.requests] == [0, 0, 0]


@pytest.mark.parametrize("stream", [False, True])
async def test_an_echoed_prompt_comes_before_its_answer(stream: bool) -> None:
    client = ChoosingClient(script("one", 1), script("two", 0))
    client.answer = AskResult(1, "Tok: ")
    async with http_around(client) as http:
        response = await http.post(
            TEXT, json={"prompt": [[1, 2], [3]], "echo": True, "stream": stream}
        )
    texts = ["", ""]
    bodies = (
        [response.text]
        if not stream
        else [f[6:] for f in response.text.split("\n\n") if f.startswith("data: {")]
    )
    for body in bodies:
        for choice in json.loads(body)["choices"]:
            texts[choice["index"]] += choice["text"]
    assert texts == ["Tok: one", "Tok: two"]
    assert client.questions == [
        Detokenize([1, 2], shows_special=False),
        Detokenize([3], shows_special=False),
    ]


@pytest.mark.parametrize(
    ("path", "prompt"), [(CHAT, {"messages": HELLO}), (TEXT, {"prompt": "Hello"})]
)
async def test_each_answer_has_its_index_and_the_prompt_counts_once(
    path: str, prompt: dict[str, Any]
) -> None:
    client = ChoosingClient(script("one", 1), script("two", 4), script("six", 4))
    async with http_around(client) as http:
        body = (await http.post(path, json={**prompt, "n": 3, "seed": 7})).json()
    choices = [
        (c["index"], c.get("text") or c["message"]["content"], c["finish_reason"])
        for c in body["choices"]
    ]
    assert choices == [(0, "one", "length"), (1, "two", "length"), (2, "six", "length")]
    assert body["usage"] == USAGE
    first, *others = client.requests
    assert [request.sampling.seed for request in client.requests] == [7, 8, 9]
    for other in others:
        assert replace(other.sampling, seed=7) == first.sampling
        assert (other.prompt, other.max_tokens, other.stop) == (
            first.prompt,
            first.max_tokens,
            first.stop,
        )


async def test_without_a_seed_each_answer_draws_its_own() -> None:
    client = ChoosingClient(script("one", 1), script("two", 4))
    async with http_around(client) as http:
        await http.post(TEXT, json={"prompt": "Hello", "n": 2})
    assert [request.sampling.seed for request in client.requests] == [None, None]


async def test_answers_are_streamed_as_they_come_and_end_together() -> None:
    one_ended = asyncio.Event()
    scripts = (script("one", 1, one_ended), script("two", 4), script("six", 4, one_ended))
    client = ChoosingClient(*scripts, one_ended=one_ended)
    request = {"messages": HELLO, "n": 3, "stream": True, "stream_options": {"include_usage": True}}
    async with http_around(client) as http:
        *chunks, usage, done = events_of((await http.post(CHAT, json=request)).text)
    assert (usage["choices"], usage["usage"], done) == ([], USAGE, "[DONE]")
    seen = [
        (chunk["choices"][0]["index"], chunk["choices"][0]["delta"].get("content"))
        for chunk in chunks
    ]
    assert seen.index((0, "o")) < seen.index((1, "wo")) < seen.index((0, "ne"))
    for index, text in enumerate(("one", "two", "six")):
        assert "".join(content or "" for at, content in seen if at == index) == text
    finish_reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert (finish_reasons.count("length"), finish_reasons.count(None)) == (3, 9)


@pytest.mark.parametrize("stream", [False, True])
async def test_one_refused_answer_refuses_the_request(stream: bool) -> None:
    client = ChoosingClient(
        (Started(1, 5), Delta(request_id=1, text="x", num_tokens=1), asyncio.Event()),
        (QueueFull("Full."),),
    )
    gateway = gateway_around(client)
    async with http_around(client) as http:
        response = await http.post(TEXT, json={"prompt": "Hello", "n": 2, "stream": stream})
    assert (response.status_code, response.json()["error"]["code"]) == (429, "queue_full")
    assert client.num_closed == 2
    assert gateway.num_requests == 0


async def test_one_failing_answer_ends_all() -> None:
    never = asyncio.Event()
    client = ChoosingClient(
        (Started(1, 5), Delta(request_id=1, text="x", num_tokens=1), never),
        (Started(2, 5), Delta(request_id=2, text="y", num_tokens=1), DecodeFailed("No numbers.")),
    )
    async with http_around(client) as http:
        response = await http.post(TEXT, json={"prompt": "Hello", "n": 2, "stream": True})
    events = response.text.split("\n\n")
    assert '"code":"decode_failed"' in events[-2]
    assert "[DONE]" not in response.text
    assert client.num_closed == 2


async def test_a_client_that_leaves_ends_all_answers(serve: Serve) -> None:
    never = asyncio.Event()
    client = ChoosingClient(
        *[(Started(1, 5), Delta(request_id=1, text="x", num_tokens=1), never)] * 3
    )
    gateway = gateway_around(client)
    base_url = serve(create_app(gateway))
    async with openai.AsyncOpenAI(base_url=f"{base_url}/v1", api_key="any", max_retries=0) as api:
        stream = await api.chat.completions.create(model="novels", messages=HELLO, n=3, stream=True)
        async with stream:
            await anext(stream)
            assert gateway.num_requests == 3
        await asyncio.wait_for(client.closed.wait(), 30)
    assert client.num_closed == 3
    assert await gateway.drain(30)

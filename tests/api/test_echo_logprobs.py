"""`echo` with `logprobs`: the prompt's tokens in front of the answer's, the first of
them without any probability.
"""

from __future__ import annotations

from typing import Any

from appliance.protocol.events import (
    Delta,
    Event,
    Finished,
    FinishReason,
    LikelyToken,
    SampledToken,
    Started,
    Usage,
)
from appliance.protocol.requests import GenerateRequest, TextPrompt
from appliance.protocol.sampling import SamplingParams
from tests.api.scripted_client import ChoosingClient, ScriptedClient, http_around
from tests.api.stream_events import events_of

PATH = "/v1/completions"
FIELDS: dict[str, Any] = {"prompt": "Hi you", "echo": True, "logprobs": 1}
PROMPT = [
    SampledToken(LikelyToken(b"Hi", None), [], 0),
    SampledToken(LikelyToken(b" you", -3.0), [LikelyToken(b" all", -1.0)], 2),
]


def script(text: str, logprob: float) -> tuple[Event, ...]:
    answer = SampledToken(
        LikelyToken(text.encode(), logprob), [LikelyToken(text.encode(), logprob)], 6
    )
    return (
        Started(1, 2),
        Delta(request_id=1, text="Hi", num_tokens=0, tokens=PROMPT[:1]),
        Delta(request_id=1, text=" you", num_tokens=0, tokens=PROMPT[1:]),
        Delta(request_id=1, text=text, num_tokens=1, tokens=[answer]),
        Finished(
            request_id=1,
            reason=FinishReason.LENGTH,
            usage=Usage(num_prompt_tokens=2, num_cached_tokens=0, num_completion_tokens=1),
        ),
    )


async def test_prompt_and_answer_are_told_together() -> None:
    client = ScriptedClient(*script("!", -0.5))
    async with http_around(client) as http:
        body = (await http.post(PATH, json=FIELDS)).json()
        streamed = events_of((await http.post(PATH, json={**FIELDS, "stream": True})).text)
    sampling = SamplingParams(num_top_logprobs=1)
    asked = GenerateRequest(
        prompt=TextPrompt("Hi you"), sampling=sampling, max_tokens=16, scores_prompt=True
    )
    assert client.requests == [asked, asked]
    assert client.questions == [], "the prompt comes back with its tokens"
    [choice] = body["choices"]
    assert choice["text"] == "Hi you!"
    assert choice["logprobs"] == {
        "tokens": ["Hi", " you", "!"],
        "token_logprobs": [None, -3.0, -0.5],
        "top_logprobs": [None, {" all": -1.0, " you": -3.0}, {"!": -0.5}],
        "text_offset": [0, 2, 6],
    }
    parts = [chunk["choices"][0] for chunk in streamed[:-1]]
    assert [part["text"] for part in parts] == ["Hi", " you", "!", ""]
    assert parts[0]["logprobs"] == {
        "tokens": ["Hi"],
        "token_logprobs": [None],
        "top_logprobs": [None],
        "text_offset": [0],
    }


async def test_no_token_is_wanted_but_the_prompts() -> None:
    events = (
        *script("!", 0.0)[:3],
        Finished(
            request_id=1,
            reason=FinishReason.LENGTH,
            usage=Usage(num_prompt_tokens=2, num_cached_tokens=0, num_completion_tokens=0),
        ),
    )
    client = ScriptedClient(*events)
    async with http_around(client) as http:
        body = (await http.post(PATH, json={**FIELDS, "max_tokens": 0})).json()
    [asked] = client.requests
    assert asked.max_tokens == 0
    assert body["choices"][0]["text"] == "Hi you"
    assert body["usage"]["completion_tokens"] == 0


async def test_the_best_answer_is_not_judged_by_its_prompt() -> None:
    """Of 3 and 1 nats a token:
    with the prompt's two tokens counted in, it would be 2 and 1.33.
    """
    client = ChoosingClient(script("a", -3.0), script("b", -1.0))
    async with http_around(client) as http:
        body = (await http.post(PATH, json={**FIELDS, "best_of": 2})).json()
    [choice] = body["choices"]
    assert choice["text"] == "Hi youb"

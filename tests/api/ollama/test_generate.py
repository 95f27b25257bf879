"""/api/generate: requests to the internal one, events to Ollama's lines."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from appliance.api.ollama.context import Turns, packed, unpacked
from appliance.api.ollama.generate import GenerateFormat
from appliance.errors import BadRequest
from appliance.protocol.events import AskResult, Delta, LikelyToken, SampledToken
from appliance.protocol.questions import Tokenize
from appliance.protocol.requests import ChatPrompt, InfillPrompt, TextPrompt, TokenPrompt
from tests.api.ollama.talk import END, NOW, asked, lines, post, stopwatch, timed
from tests.api.scripted_client import ANSWER, INFO, ScriptedClient

TURNS: Turns = [("system", "Be brief."), ("user", "Hello ☕"), ("assistant", "Hi")]


def chunk(text: str) -> dict[str, Any]:
    return {"model": "novels", "created_at": NOW, "done": False, "response": text}


def test_an_answer_is_a_line_for_each_text_and_one_with_times_and_context() -> None:
    wire_format = GenerateFormat("novels", stopwatch(), turns=[("user", "Hello")])
    items = [each for event in timed(ANSWER) for each in wire_format.items(0, event)]
    *texts, last = [msgspec.to_builtins(item) for item in items]
    assert texts == [chunk("It was"), chunk(" a café…")]
    context = last.pop("context")
    assert last == {**chunk(""), **END}
    assert unpacked(context) == [("user", "Hello"), ("assistant", "It was a café…")]


def test_thinking_and_probabilities_have_their_places() -> None:
    token = SampledToken(
        chosen=LikelyToken(b"It", -0.5), top=[LikelyToken(b"\xff", -0.25)], text_offset=0
    )
    delta = Delta(request_id=1, text="It", num_tokens=1, reasoning="Hm", tokens=[token])
    wire_format = GenerateFormat("novels", stopwatch(), has_top_logprobs=True)
    [item] = wire_format.items(0, delta)
    assert msgspec.to_builtins(item) == {
        **chunk("It"),
        "thinking": "Hm",
        "logprobs": [
            {
                "token": "It",
                "logprob": -0.5,
                "bytes": [73, 116],
                "top_logprobs": [{"token": "�", "logprob": -0.25, "bytes": [255]}],
            }
        ],
    }


async def test_a_prompt_is_a_conversation_that_context_goes_on_with() -> None:
    client = ScriptedClient(*ANSWER)
    first = await post(client, "generate", prompt="Hello", system="Be brief.", stream=False)
    context = first.json()["context"]
    assert first.json()["response"] == "It was a café…"
    assert all(0 <= number < 2**31 for number in context)
    await post(client, "generate", prompt="More", context=context)
    begun = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
    ]
    assert client.requests[0].prompt == ChatPrompt(messages=begun)
    answer = {"role": "assistant", "content": "It was a café…"}
    more = {"role": "user", "content": "More"}
    assert client.requests[1].prompt == ChatPrompt(messages=[*begun, answer, more])


def test_a_conversation_survives_its_numbers() -> None:
    for turns in ([], TURNS[:1], TURNS[:2], TURNS):
        assert unpacked(packed(turns)) == turns
    assert unpacked([]) == []


@pytest.mark.parametrize(
    "numbers", [[1, 2, 3], [5], [*packed(TURNS)[:-1], 7], packed(TURNS)[:-1], [2**31 - 1] * 9]
)
def test_numbers_of_another_server_are_refused(numbers: list[int]) -> None:
    with pytest.raises(BadRequest, match="not one that this server sent"):
        unpacked(numbers)


async def test_raw_prompts_are_tokenized_with_their_special_tokens() -> None:
    client = ScriptedClient(*ANSWER)
    client.answer = AskResult(1, tokens=[4, 5])
    response = await post(client, "generate", prompt="<|im_start|>", raw=True)
    assert client.questions == [Tokenize(TextPrompt("<|im_start|>"), parses_special=True)]
    assert client.requests[0].prompt == TokenPrompt([4, 5])
    assert "context" not in lines(response)[-1]


async def test_a_suffix_is_what_comes_after_the_gap() -> None:
    [request] = (await asked("generate", prompt="def ", suffix="return 1")).requests
    assert request.prompt == InfillPrompt(prefix="def ", suffix="return 1", param="suffix")


async def test_a_model_without_a_chat_template_continues_the_prompt() -> None:
    client = ScriptedClient(*ANSWER)
    client.info = msgspec.structs.replace(INFO, has_chat_template=False)
    await post(client, "generate", prompt="Once")
    assert client.requests[0].prompt == TextPrompt("Once")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"raw": True, "system": "x"}, "'system' has no place"),
        ({"raw": True, "context": [1]}, "'context' has no place"),
        ({"suffix": "x", "context": [1]}, "without 'context'"),
        ({"context": [1, 2, 3]}, "not one that this server sent"),
        ({"template": "{{ .Prompt }}"}, "template"),
        ({"images": ["aGk="]}, "images"),
        ({"top_logprobs": 3}, "logprobs"),
        ({"format": "xml"}, "format"),
    ],
)
async def test_what_cannot_be_done_is_refused_by_name(body: dict[str, Any], message: str) -> None:
    response = await post(ScriptedClient(*ANSWER), "generate", prompt="Hi", **body)
    assert response.status_code == 400
    assert message in response.json()["error"]


async def test_without_a_prompt_the_model_is_loaded() -> None:
    response = await post(ScriptedClient(), "generate", model="novels")
    assert response.json() | {"created_at": ""} == {
        "model": "novels",
        "created_at": "",
        "response": "",
        "done": True,
        "done_reason": "load",
    }

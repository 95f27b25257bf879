"""`return_token_ids`, as vLLM has it: where the ids stand in responses and chunks."""

from __future__ import annotations

from typing import Any

import pytest

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
from tests.api.scripted_client import ChoosingClient, http_around
from tests.api.stream_events import events_of

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"messages": [{"role": "user", "content": "Hi"}]},
    TEXT: {"prompt": "Hi"},
}
PROMPT = [1, 43, 446]


def script(*told: Event) -> tuple[Event, ...]:
    return (
        Started(1, len(PROMPT), prompt_token_ids=PROMPT),
        *told,
        Finished(
            request_id=1,
            reason=FinishReason.STOP,
            usage=Usage(num_prompt_tokens=3, num_cached_tokens=0, num_completion_tokens=4),
        ),
    )


def delta(text: str, *token_ids: int, **fields: Any) -> Delta:
    return Delta(
        request_id=1, text=text, num_tokens=len(token_ids), token_ids=[*token_ids], **fields
    )


IT_WAS = script(delta("It", 7), delta(" was", 8, 9), delta("", 0))
NO = script(delta("No", 5))


async def answer(path: str, *scripts: tuple[Event, ...], **fields: Any) -> Any:
    """The response's object, or its chunks."""
    client = ChoosingClient(*scripts)
    async with http_around(client) as http:
        response = await http.post(path, json={**BODIES[path], "return_token_ids": True, **fields})
    assert response.status_code == 200, response.text
    assert all(asked.reports_tokens and asked.reports_prompt_tokens for asked in client.requests)
    if "stream" not in fields:
        return response.json()
    chunks = events_of(response.text)
    assert chunks.pop() == "[DONE]"
    return chunks


def told(chunk: dict[str, Any]) -> tuple[Any, ...]:
    """A chunk's text, or a message's role, and its ids: the choice's and the prompt's."""
    [choice] = chunk["choices"]
    delta = choice.get("delta", {})
    text = delta.get("role") or delta.get("content", "") if delta else choice.get("text", "")
    prompt = chunk.get("prompt_token_ids", choice.get("prompt_token_ids"))
    return choice["index"], text, choice.get("token_ids"), prompt


@pytest.mark.parametrize("path", BODIES)
async def test_whole_responses_have_each_choices_ids_and_the_prompts(path: str) -> None:
    body = await answer(path, IT_WAS, NO, n=2)
    assert [choice["token_ids"] for choice in body["choices"]] == [[7, 8, 9, 0], [5]]
    of_prompts = [body] if path == CHAT else body["choices"]
    assert [holder["prompt_token_ids"] for holder in of_prompts] == [PROMPT] * len(of_prompts)
    assert ("prompt_token_ids" in body) == (path == CHAT)


async def test_a_chats_chunks_have_their_own_ids_and_the_first_the_prompts() -> None:
    assert [told(chunk) for chunk in await answer(CHAT, IT_WAS, stream=True)] == [
        (0, "assistant", None, PROMPT),
        (0, "It", [7], None),
        (0, " was", [8, 9], None),
        (0, "", [0], None),
        (0, "", [], None),
    ]


async def test_a_completions_first_chunk_is_its_first_tokens() -> None:
    assert [told(chunk) for chunk in await answer(TEXT, IT_WAS, stream=True)] == [
        (0, "It", [7], PROMPT),
        (0, " was", [8, 9], None),
        (0, "", [0], None),
        (0, "", [], None),
    ]


async def test_a_completion_without_text_has_its_prompts_ids_all_the_same() -> None:
    assert [told(chunk) for chunk in await answer(TEXT, script(), stream=True)] == [
        (0, "", [], PROMPT)
    ]


@pytest.mark.parametrize("path", BODIES)
async def test_the_chunks_of_each_choice_are_told_apart(path: str) -> None:
    chunks = [told(chunk) for chunk in await answer(path, IT_WAS, NO, n=2, stream=True)]
    for index, ids in ((0, [7, 8, 9, 0]), (1, [5])):
        own = [(of_chunk or [], prompt) for at, _, of_chunk, prompt in chunks if at == index]
        assert [token for of_chunk, _ in own for token in of_chunk] == ids
        assert [prompt for _, prompt in own] == [PROMPT, *[None] * (len(own) - 1)]


async def test_an_echoed_prompt_is_text_and_none_of_the_sampled_ids() -> None:
    echoed = {"echo": True, "stream": True}
    assert [told(chunk) for chunk in await answer(TEXT, NO, **echoed)] == [
        (0, "Hi", [], PROMPT),
        (0, "No", [5], None),
        (0, "", [], None),
    ]
    scored = SampledToken(LikelyToken(b"Hi", None, id=43), [], 0)
    no = SampledToken(LikelyToken(b"No", -0.5, id=5), [], 2)
    prompt = Delta(request_id=1, text="Hi", num_tokens=0, tokens=[scored])
    both = script(prompt, delta("No", 5, tokens=[no]))
    chunks = await answer(TEXT, both, **echoed, logprobs=0)
    assert [told(chunk)[1:] for chunk in chunks] == [
        ("Hi", [], PROMPT),
        ("No", [5], None),
        ("", [], None),
    ]
    [choice] = (await answer(TEXT, both, echo=True, logprobs=0))["choices"]
    assert (choice["text"], choice["token_ids"]) == ("HiNo", [5])
    assert choice["logprobs"]["tokens"] == ["Hi", "No"]


@pytest.mark.parametrize(("path", "logprobs"), [(CHAT, True), (TEXT, 0)])
async def test_ids_without_text_have_no_log_probabilities(path: str, logprobs: object) -> None:
    """A stop string's have ids, and are no part of the text."""
    no = SampledToken(LikelyToken(b"No", -0.5, id=5), [], 0)
    events = script(delta("No", 5, tokens=[no]), delta("", 6, tokens=[]))
    [choice] = (await answer(path, events, logprobs=logprobs))["choices"]
    assert choice["token_ids"] == [5, 6]
    assert len(next(iter(choice["logprobs"].values()))) == 1
    chunks = await answer(path, events, logprobs=logprobs, stream=True)
    choices = [chunk["choices"][0] for chunk in chunks if "token_ids" in chunk["choices"][0]]
    assert [choice["token_ids"] for choice in choices] == [[5], [6], []]
    assert [choice["logprobs"] is None for choice in choices] == [False, True, True]


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fields", [{}, {"return_token_ids": False}, {"return_token_ids": None}])
async def test_nobody_else_gets_any(path: str, stream: bool, fields: dict[str, Any]) -> None:
    client = ChoosingClient(NO)
    async with http_around(client) as http:
        body = {**BODIES[path], "stream": stream, **fields}
        response = await http.post(path, json=body)
    assert response.status_code == 200
    assert "token_ids" not in response.text
    [asked] = client.requests
    assert (asked.reports_tokens, asked.reports_prompt_tokens) == (False, False)


@pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/responses", {"input": "Hi"}), ("/completion", {"prompt": "Hi"})],
)
async def test_where_there_are_none_they_are_refused_by_name(
    path: str, body: dict[str, Any]
) -> None:
    async with http_around(ChoosingClient(NO)) as http:
        response = await http.post(path, json={**body, "return_token_ids": True})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "return_token_ids"

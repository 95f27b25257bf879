"""Chat completions: what the request becomes inside,
and how its answer reads, byte for byte.
"""

from __future__ import annotations

from typing import Any

import pytest

from appliance.protocol.events import Delta, Finished, FinishReason, Started, Usage
from appliance.protocol.requests import ChatPrompt, GenerateRequest
from appliance.protocol.sampling import SamplingParams
from tests.api.scripted_client import ANSWER, ANSWER_USAGE, ScriptedClient, http_around
from tests.api.stream_events import events_of

PATH = "/v1/chat/completions"
USER = {"role": "user", "content": "Tell me a story."}


async def internal_request(**fields: Any) -> GenerateRequest:
    client = ScriptedClient(*ANSWER)
    async with http_around(client) as http:
        response = await http.post(PATH, json={"model": "novels", "messages": [USER], **fields})
    assert response.status_code == 200, response.text
    return client.requests[0]


# --- the request ----------------------------------------------------------------------


async def test_absent_and_null_parameters_mean_the_defaults() -> None:
    plain = GenerateRequest(
        prompt=ChatPrompt(messages=[{"role": "user", "content": "Tell me a story."}]),
        sampling=SamplingParams(),
        max_tokens=None,
        stop=[],
    )
    assert await internal_request() == plain
    nulls = [
        "temperature",
        "top_p",
        "seed",
        "stop",
        "max_tokens",
        "max_completion_tokens",
        "logit_bias",
        "stream",
        "n",
    ]
    assert await internal_request(**dict.fromkeys(nulls)) == plain
    assert await internal_request(seed=-1) == plain, "llama.cpp's random seed"


async def test_every_supported_parameter_arrives() -> None:
    request = await internal_request(
        temperature=0,
        top_p=0.5,
        top_k=7,
        min_p=0.125,
        presence_penalty=-2,
        frequency_penalty=1.5,
        repeat_penalty=1.25,
        repeat_last_n=32,
        seed=-(2**63),
        logit_bias={"17": -100, "4": 0.5},
        ignore_eos=True,
        max_completion_tokens=9,
        stop=["\n\n", "END"],
        user="someone",
        metadata={"purpose": "test"},
        store=False,
    )
    assert request == GenerateRequest(
        prompt=ChatPrompt(messages=[{"role": "user", "content": "Tell me a story."}]),
        sampling=SamplingParams(
            temperature=0.0,
            top_k=7,
            top_p=0.5,
            min_p=0.125,
            repeat_penalty=1.25,
            repeat_last_n=32,
            presence_penalty=-2.0,
            frequency_penalty=1.5,
            seed=-(2**63),
            logit_bias={17: -100.0, 4: 0.5},
            ignore_eos=True,
        ),
        max_tokens=9,
        stop=["\n\n", "END"],
    )


async def test_llama_cpps_samplers_arrive_under_its_names() -> None:
    fields = {
        "typical_p": 0.9,
        "top_n_sigma": 1.5,
        "xtc_probability": 0.5,
        "xtc_threshold": 0.2,
        "dry_multiplier": 0.8,
        "dry_base": 2.0,
        "dry_allowed_length": 3,
        "dry_penalty_last_n": 64,
        "mirostat": 2,
        "mirostat_tau": 4.0,
        "mirostat_eta": 0.2,
        "dynatemp_range": 0.5,
        "dynatemp_exponent": 1.5,
    }
    request = await internal_request(**fields, dry_sequence_breakers=["\n", "»"])
    assert request.sampling == SamplingParams(**fields, dry_sequence_breakers=("\n", "»"))  # type: ignore[arg-type] # one dict, many types


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("typical_p", 0),
        ("xtc_probability", 1.5),
        ("dry_base", 0.5),
        ("dry_sequence_breakers", [""]),
        ("dry_sequence_breakers", ["é" * 21]),
        ("dry_sequence_breakers", ["x"] * 17),
        ("mirostat", 3),
        ("mirostat_tau", 0),
        ("dynatemp_range", "wide"),
    ],
)
async def test_samplers_out_of_bounds_are_refused_by_name(name: str, value: object) -> None:
    async with http_around(ScriptedClient(*ANSWER)) as http:
        response = await http.post(PATH, json={"messages": [USER], name: value})
    assert response.status_code == 400
    assert response.json()["error"]["param"].partition("[")[0] == name


async def test_one_stop_string_the_older_name_of_the_limit_and_llama_cpps_minus_one() -> None:
    request = await internal_request(stop="END", max_tokens=3, top_k=-1)
    assert (request.stop, request.max_tokens, request.sampling.top_k) == (["END"], 3, 0)
    assert (await internal_request(max_tokens=3, max_completion_tokens=3)).max_tokens == 3


async def test_messages_become_what_templates_expect() -> None:
    parts = [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}]
    request = await internal_request(
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": parts, "name": "ann"},
            {"role": "assistant", "content": "", "refusal": None, "tool_calls": None},
            {"role": "user", "content": "Go on."},
        ]
    )
    assert request.prompt == ChatPrompt(
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "One.\nTwo.", "name": "ann"},
            {"role": "assistant", "content": ""},
            {"role": "user", "content": "Go on."},
        ]
    )


async def test_an_assistants_turn_at_the_end_is_gone_on_with() -> None:
    question, begun = (
        {"role": "user", "content": "Is it?"},
        {"role": "assistant", "content": "It is, "},
    )
    assert (await internal_request(messages=[question, begun])).prompt == ChatPrompt(
        messages=[question, begun], continue_final_message=True
    )


async def test_what_else_a_template_reads_goes_to_it() -> None:
    arguments = {"enable_thinking": False, "budget": {"tokens": 7}}
    request = await internal_request(chat_template_kwargs=arguments)
    assert request.prompt == ChatPrompt(
        messages=[{"role": "user", "content": "Tell me a story."}], arguments=arguments
    )


@pytest.mark.parametrize("name", ["messages", "tools", "documents", "add_generation_prompt"])
async def test_what_a_template_is_given_anyway_cannot_be_replaced(name: str) -> None:
    async with http_around(ScriptedClient(*ANSWER)) as http:
        response = await http.post(
            "/v1/chat/completions", json={"messages": [USER], "chat_template_kwargs": {name: []}}
        )
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "chat_template_kwargs"
    assert name in response.json()["error"]["message"]


# --- the answer -----------------------------------------------------------------------


async def test_the_whole_answer_has_openais_shape() -> None:
    async with http_around(ScriptedClient(*ANSWER)) as http:
        response = await http.post(PATH, json={"messages": [USER]})
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert body.pop("id").startswith("chatcmpl-")
    assert body.pop("created") > 1_700_000_000
    assert body.pop("system_fingerprint").startswith("fp_")
    assert body == {
        "object": "chat.completion",
        "model": "novels",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "It was a café…", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": ANSWER_USAGE,
    }


async def test_the_stream_has_openais_shape() -> None:
    async with http_around(ScriptedClient(*ANSWER)) as http:
        response = await http.post(
            PATH, json={"model": "org/novels", "messages": [USER], "stream": True}
        )
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-store"
    *chunks, done = events_of(response.text)
    assert done == "[DONE]"
    headings = [
        {
            name: chunk.pop(name)
            for name in ("id", "object", "created", "model", "system_fingerprint")
        }
        for chunk in chunks
    ]
    assert headings == [headings[0]] * 4
    assert headings[0]["object"] == "chat.completion.chunk"
    assert headings[0]["model"] == "novels"  # the id, also when asked for by an alias
    deltas = [
        {"role": "assistant", "content": ""},
        {"content": "It was"},
        {"content": " a café…"},
        {},
    ]
    reasons = [None, None, None, "stop"]
    assert chunks == [
        {"choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]}
        for delta, reason in zip(deltas, reasons, strict=True)
    ]


async def test_usage_comes_last_when_asked_for_and_is_null_before() -> None:
    body = {"messages": [USER], "stream": True, "stream_options": {"include_usage": True}}
    async with http_around(ScriptedClient(*ANSWER)) as http:
        response = await http.post(PATH, json=body)
    *chunks, last, done = events_of(response.text)
    assert done == "[DONE]"
    assert [chunk["usage"] for chunk in chunks] == [None] * 4
    assert (last["choices"], last["usage"]) == ([], ANSWER_USAGE)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_cut_at_its_limit_says_length(stream: bool) -> None:
    client = ScriptedClient(
        Started(1, 1),
        Delta(request_id=1, text="It", num_tokens=1),
        Finished(
            request_id=1,
            reason=FinishReason.LENGTH,
            usage=Usage(num_prompt_tokens=1, num_cached_tokens=0, num_completion_tokens=1),
        ),
    )
    async with http_around(client) as http:
        response = await http.post(
            PATH, json={"messages": [USER], "max_tokens": 1, "stream": stream}
        )
    last = events_of(response.text)[-2] if stream else response.json()
    assert last["choices"][0]["finish_reason"] == "length"

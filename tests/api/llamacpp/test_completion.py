"""/completion: what is asked of the worker, and the records that llama-server of the
pinned version wrote for the same requests.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from appliance.protocol.events import (
    AskResult,
    Delta,
    Event,
    Finished,
    FinishReason,
    LikelyToken,
    PromptProgress,
    SampledToken,
    Started,
    Times,
    Usage,
)
from appliance.protocol.questions import Detokenize
from appliance.protocol.requests import GenerateRequest, MixedPrompt
from appliance.protocol.sampling import SamplingParams
from tests.api.scripted_client import ANSWER, ChoosingClient, ScriptedClient, http_around

OF = LikelyToken(b" of", -1.5, id=286)
END = LikelyToken(b"<|end|>", -0.25, True, 0)


def usage(num_new: int, times: Times | None = None) -> Usage:
    return Usage(
        num_prompt_tokens=5, num_cached_tokens=4, num_completion_tokens=num_new, times=times
    )


TOLD: tuple[Event, ...] = (
    Started(1, 5),
    Delta(
        request_id=1,
        text="",
        num_tokens=0,
        progress=PromptProgress(
            num_prompt_tokens=5, num_cached_tokens=4, num_prefilled_tokens=5, time_ms=1.5
        ),
    ),
    Delta(
        request_id=1,
        text=" of",
        num_tokens=1,
        tokens=[SampledToken(OF, [OF, LikelyToken(b"\xe6", -2.0, id=9)], 0)],
        usage=usage(1, Times(2.0, 0.0)),
        token_ids=[286],
    ),
    Delta(
        request_id=1,
        text="",
        num_tokens=1,
        tokens=[SampledToken(END, [], 3)],
        usage=usage(2, Times(2.0, 4.0)),
        token_ids=[0],
    ),
    Finished(request_id=1, reason=FinishReason.STOP, usage=usage(2, Times(2.0, 4.0))),
)
TIMINGS = {
    "cache_n": 4,
    "prompt_n": 1,
    "prompt_ms": 2.0,
    "prompt_per_token_ms": 2.0,
    "prompt_per_second": 500.0,
    "predicted_n": 2,
    "predicted_ms": 4.0,
    "predicted_per_token_ms": 2.0,
    "predicted_per_second": 500.0,
}
OF_RECORD = {"id": 286, "token": " of", "bytes": [32, 111, 102], "logprob": -1.5}
OF_PROBABILITY = {
    **OF_RECORD,
    "top_logprobs": [OF_RECORD, {"id": 9, "token": "", "bytes": [0xE6], "logprob": -2.0}],
}
END_PROBABILITY = {"id": 0, "token": "", "bytes": [], "logprob": -0.25, "top_logprobs": []}


async def post(client: ScriptedClient, fields: dict[str, Any], path: str = "/completion") -> Any:
    async with http_around(client) as http:
        return await http.post(path, json=fields)


def events_in(text: str) -> list[Any]:
    return [json.loads(line.removeprefix("data: ")) for line in text.split("\n\n") if line]


async def test_every_field_reaches_the_worker() -> None:
    client = ScriptedClient(*ANSWER)
    fields = {
        "prompt": "<|im_start|>user",
        "n_predict": 7,
        "temperature": 0,
        "stop": ["\n"],
        "n_probs": 3,
        "return_tokens": True,
        "cache_prompt": False,
        "logit_bias": [[286, False]],
        "ignore_eos": True,
        "n_indent": 2,
        "t_max_predict_ms": 100,
        "id_slot": 1,
        "n_keep": 0,
        "return_progress": True,  # of streams
        "n_cache_reuse": 256,
    }
    response = await post(client, fields)
    assert response.status_code == 200, response.text
    assert client.requests == [
        GenerateRequest(
            prompt=MixedPrompt(["<|im_start|>user"]),
            sampling=SamplingParams(
                temperature=0, logit_bias={286: -100}, ignore_eos=True, num_top_logprobs=3
            ),
            max_tokens=7,
            stop=["\n"],
            uses_cache=False,
            min_indent=2,
            max_text_ms=100,
            includes_times=True,
            reports_tokens=True,
        )
    ]


@pytest.mark.parametrize(
    ("prompt", "parts"),
    [
        ("a", [["a"]]),
        ("", [[""]]),
        ([1, 2], [[[1, 2]]]),
        ([1, 2, "a", 3], [[[1, 2], "a", [3]]]),
        (["a", 3], [["a", [3]]]),
        (["a", "b"], [["a"], ["b"]]),
        (["a", [1, "b"], {"prompt_string": "c"}], [["a"], [[1], "b"], ["c"]]),
        ({"prompt_string": "c", "multimodal_data": []}, [["c"]]),
    ],
)
async def test_a_prompt_has_all_of_llama_cpps_forms(
    prompt: object, parts: list[list[str | list[int]]]
) -> None:
    client = ScriptedClient(*ANSWER)
    client.answer = AskResult(1, "text")
    response = await post(client, {"prompt": prompt, "response_fields": ["content"]})
    assert response.status_code == 200, response.text
    assert [request.prompt for request in client.requests] == [MixedPrompt(each) for each in parts]
    several = [{"content": "It was a café…"}] * len(parts)
    assert response.json() == (several if len(parts) > 1 else several[0])
    assert client.questions == [], "nobody wants to see the prompt"


async def test_the_whole_answer_has_llama_servers_shape() -> None:
    client = ScriptedClient(*TOLD)
    client.answer = AskResult(1, " upon")
    body = (
        await post(client, {"prompt": ["Once", 310, 311], "n_probs": 2, "return_tokens": True})
    ).json()
    assert client.questions == [Detokenize([310, 311])]
    settings = body.pop("generation_settings")
    shown = ("n_predict", "max_tokens", "n_probs", "seed", "stream", "grammar", "lora", "stop")
    assert {name: settings[name] for name in shown} == {
        "n_predict": -1,
        "max_tokens": -1,
        "n_probs": 2,
        "seed": 4294967295,
        "stream": False,
        "grammar": "",
        "lora": [],
        "stop": [],
    }
    assert body == {
        "index": 0,
        "content": " of",
        "tokens": [286, 0],
        "id_slot": -1,
        "stop": True,
        "model": "novels",
        "tokens_predicted": 2,
        "tokens_evaluated": 5,
        "tokens_cached": 4,
        "prompt": "Once upon",
        "has_new_line": False,
        "truncated": False,
        "stop_type": "eos",
        "stopping_word": "",
        "timings": TIMINGS,
        "completion_probabilities": [OF_PROBABILITY, END_PROBABILITY],
    }


async def test_a_stream_tells_of_tokens_times_and_the_prompts_progress() -> None:
    client = ScriptedClient(*TOLD)
    fields = {
        "prompt": "Once",
        "stream": True,
        "n_probs": 2,
        "timings_per_token": True,
        "return_progress": True,
        "response_fields": ["content", "stop_type"],
        "id_slot": 0,
    }
    response = await post(client, fields)
    first = {"index": 0, "id_slot": 0, "stop": False}
    assert events_in(response.text) == [
        {
            **first,
            "content": "",
            "tokens": [],
            "tokens_predicted": 0,
            "tokens_evaluated": 5,
            "prompt_progress": {"total": 5, "cache": 4, "processed": 5, "time_ms": 1.5},
        },
        {
            **first,
            "content": " of",
            "tokens": [286],
            "tokens_predicted": 1,
            "tokens_evaluated": 5,
            "timings": {
                **TIMINGS,
                "predicted_n": 1,
                "predicted_ms": 0.0,
                "predicted_per_token_ms": 0.0,
                "predicted_per_second": 0.0,
            },
            "completion_probabilities": [OF_PROBABILITY],
        },
        {
            **first,
            "content": "",
            "tokens": [0],
            "tokens_predicted": 2,
            "tokens_evaluated": 5,
            "timings": TIMINGS,
            "completion_probabilities": [END_PROBABILITY],
        },
        {"content": "", "stop_type": "eos"},
    ]
    [asked] = client.requests
    assert (asked.reports_usage, asked.reports_progress, asked.reports_tokens) == (True,) * 3


async def test_several_completions_are_a_list_and_count_on() -> None:
    client = ChoosingClient(*[ANSWER] * 4)
    fields = {"prompt": ["a", "b"], "n_cmpl": 2, "response_fields": ["index", "prompt"]}
    assert (await post(client, fields)).json() == [
        {"index": index, "prompt": "ab"[index // 2]} for index in range(4)
    ]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "prompt"),
        ({"prompt": 3}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt[0]"),
        ({"prompt": ["a", 1.5, 1]}, "prompt[1]"),
        ({"prompt": [True]}, "prompt[0]"),
        ({"prompt": {"prompt_string": "a", "multimodal_data": ["x"]}}, "prompt.multimodal_data"),
        ({"prompt": "a", "post_sampling_probs": True}, "post_sampling_probs"),
        ({"prompt": "a", "lora": [{"id": 0, "scale": 1.0}]}, "lora"),
        ({"prompt": "a", "n_probs": 129}, "n_probs"),
        ({"prompt": "a", "messages": [{}]}, "messages"),
        ({"prompt": ["a"] * 65, "n_cmpl": 2}, "prompt"),
    ],
)
async def test_what_is_wrong_is_named_in_llama_servers_shape(
    fields: dict[str, Any], param: str
) -> None:
    response = await post(ScriptedClient(*ANSWER), fields)
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["type"], error["param"]) == (
        400,
        400,
        "invalid_request_error",
        param,
    )


@pytest.mark.parametrize(
    ("fields", "native"),
    [
        ({"prompt": "a", "n_predict": 3}, True),
        ({"prompt": "a", "max_tokens": 3, "model": "novels"}, False),
    ],
)
async def test_completions_without_v1_are_llama_cpps_or_openais_by_their_body(
    fields: dict[str, Any], native: bool
) -> None:
    client = ScriptedClient(*ANSWER)
    body = (await post(client, fields, "/completions")).json()
    assert ("content" in body, "choices" in body) == (native, not native)
    wrong = (await post(client, {**fields, "temperature": "x"}, "/completions")).json()["error"]
    assert wrong["code"] == (400 if native else "invalid_value")


# --- what OpenAI's answers have of it -------------------------------------------------


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}]}),
        ("/v1/completions", {"prompt": "Hi"}),
    ],
)
async def test_openais_answers_have_timings_and_progress_where_asked(
    path: str, fields: dict[str, Any]
) -> None:
    asked = {**fields, "timings_per_token": True, "return_progress": True}
    client = ScriptedClient(*TOLD)
    assert (await post(client, asked, path)).json()["timings"] == TIMINGS
    assert "timings" not in (await post(client, fields, path)).json()
    assert not client.requests[1].includes_times
    text = (await post(client, {**asked, "stream": True}, path)).text
    chunks = events_in(text.replace("data: [DONE]\n\n", ""))
    assert [chunk["prompt_progress"] for chunk in chunks if "prompt_progress" in chunk] == [
        {"total": 5, "cache": 4, "processed": 5, "time_ms": 1.5}
    ]
    assert [chunk["timings"]["predicted_n"] for chunk in chunks if "timings" in chunk] == [1, 2, 2]
    plain = events_in(
        (await post(client, {**fields, "stream": True}, path)).text.replace("data: [DONE]\n\n", "")
    )
    assert not any("timings" in chunk for chunk in plain)

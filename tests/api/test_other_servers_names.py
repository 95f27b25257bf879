"""What requests to other servers call what there is here, and what they have beyond it."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.protocol.grammar_kind import GrammarKind
from appliance.protocol.requests import ChatPrompt, Grammar
from tests.api.answered_requests import BODIES, HI, answered
from tests.api.scripted_client import ANSWER, ScriptedClient, http_around

CHAT = BODIES["chat/completions"]


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("repetition_penalty", "repeat_penalty"),
        ("penalty_last_n", "repeat_last_n"),
        ("repetition_context_size", "repeat_last_n"),
        ("typ_p", "typical_p"),
        ("typical", "typical_p"),
        ("top_nsigma", "top_n_sigma"),
        ("mirostat_mode", "mirostat"),
        ("random_seed", "seed"),
    ],
)
async def test_samplers_under_other_names(path: str, name: str, field: str) -> None:
    _, request = await answered(path, {**BODIES[path], name: 1})
    assert getattr(request.sampling, field) == 1
    _, request = await answered(path, {**BODIES[path], name: 1, field: 1.0})
    assert getattr(request.sampling, field) == 1


@pytest.mark.parametrize("path", ["chat/completions", "completions"])
@pytest.mark.parametrize("name", ["n_predict", "num_predict", "max_new_tokens"])
async def test_limits_and_stops_under_other_names(path: str, name: str) -> None:
    _, request = await answered(path, {**BODIES[path], name: 4, "stop_sequences": ["x"]})
    assert (request.max_tokens, request.stop) == (4, ["x"])
    _, request = await answered(path, {**BODIES[path], name: -1})
    assert request.max_tokens is None
    _, request = await answered(path, {**BODIES[path], "max_completion_tokens": 4})
    assert request.max_tokens == 4
    _, request = await answered(path, {**BODIES[path], "repeat_last_n": -1})
    assert request.sampling.repeat_last_n == 2**31 - 1, "the whole context"
    for least in ("min_tokens", "min_new_tokens"):
        _, request = await answered(path, {**BODIES[path], least: 3})
        assert request.sampling.min_tokens == 3
    _, request = await answered("responses", {"input": "hi", "max_tokens": 4, "ttl": 60})
    assert (request.max_tokens, request.keep_alive_s) == (4, 60)


async def test_two_names_of_one_parameter_must_agree() -> None:
    body = {**CHAT, "repeat_penalty": 1.1, "repetition_penalty": 1.2}
    async with http_around(ScriptedClient(*ANSWER)) as http:
        error = (await http.post("/v1/chat/completions", json=body)).json()["error"]
    assert error["param"] == "repetition_penalty"
    assert "'repeat_penalty' is another name of this parameter" in error["message"]


async def test_a_wrong_value_is_named_as_it_was_sent() -> None:
    async with http_around(ScriptedClient(*ANSWER)) as http:
        response = await http.post("/v1/chat/completions", json={**CHAT, "repetition_penalty": -1})
    assert response.json()["error"]["param"] == "repetition_penalty"


@pytest.mark.parametrize("path", ["chat/completions", "completions"])
@pytest.mark.parametrize(
    ("fields", "grammar"),
    [
        ({"guided_json": {}}, Grammar(GrammarKind.JSON_SCHEMA, "{}", "guided_json")),
        ({"guided_json": "{}"}, Grammar(GrammarKind.JSON_SCHEMA, "{}", "guided_json")),
        ({"guided_regex": "[0-9]+"}, Grammar(GrammarKind.REGEX, "[0-9]+", "guided_regex")),
        ({"regex": "[0-9]+"}, Grammar(GrammarKind.REGEX, "[0-9]+", "guided_regex")),
        ({"guided_choice": ["a"]}, Grammar(GrammarKind.CHOICE, '["a"]', "guided_choice")),
        ({"guided_grammar": "g"}, Grammar(GrammarKind.GBNF, "g", "guided_grammar")),
        ({"format": "json"}, Grammar(GrammarKind.JSON_SCHEMA, '{"type":"object"}', "format")),
        ({"format": {}}, None),
        ({"format": ""}, None),
    ],
)
async def test_formats_under_other_names(
    path: str, fields: dict[str, Any], grammar: Grammar | None
) -> None:
    _, request = await answered(path, {**BODIES[path], **fields})
    assert request.grammar == grammar


@pytest.mark.parametrize(
    ("fields", "effort", "arguments", "max_tokens"),
    [
        ({"think": False}, "none", {}, None),
        ({"think": True}, "medium", {}, None),
        ({"think": "high"}, "high", {}, None),
        ({"enable_thinking": False}, None, {"enable_thinking": False}, None),
        ({"thinking": {"type": "disabled"}}, "none", {}, None),
        ({"thinking": {"type": "enabled", "budget_tokens": 9}}, "medium", {}, 9),
        ({"thinking_budget": 7}, None, {}, 7),
        ({"reasoning_budget": -1}, None, {}, None),
        ({"reasoning_effort": "low", "think": True}, "low", {}, None),
    ],
)
async def test_reasoning_under_other_names(
    fields: dict[str, Any], effort: str | None, arguments: dict[str, Any], max_tokens: int | None
) -> None:
    for path in ("chat/completions", "responses"):
        _, request = await answered(path, {**BODIES[path], **fields})
        assert isinstance(request.prompt, ChatPrompt)
        assert request.prompt.reasoning_effort == effort
        assert request.prompt.arguments == arguments
        assert request.max_reasoning_tokens == max_tokens


async def test_reasoning_as_openrouter_has_it() -> None:
    routed = {"effort": "high", "max_tokens": 5, "enabled": True, "exclude": False}
    _, request = await answered("chat/completions", {**CHAT, "reasoning": routed})
    assert isinstance(request.prompt, ChatPrompt)
    assert (request.prompt.reasoning_effort, request.max_reasoning_tokens) == ("high", 5)


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    ("name", "nothing", "something"),
    [
        ("length_penalty", [1, 1.0, None], 2),
        ("id_slot", [-1, 3], None),
        ("tfs_z", [1, 1.0], 0.9),
        ("skip_special_tokens", [True], False),
        ("timings_per_token", [False, True], None),
        ("use_beam_search", [False], 0),
        ("stop_token_ids", [[]], [7]),
        ("provider", [{"order": ["a"]}], None),
        ("options", [{}], {"top_k": 1}),
        ("extra_body", [{}], {"top_k": 1}),
        ("parameters", [{}], {"top_k": 1}),
    ],
)
async def test_values_that_ask_for_nothing_pass_and_others_are_refused_by_name(
    path: str, name: str, nothing: list[Any], something: Any
) -> None:
    for value in nothing:
        await answered(path, {**BODIES[path], name: value})
    if something is not None:
        async with http_around(ScriptedClient(*ANSWER)) as http:
            response = await http.post(f"/v1/{path}", json={**BODIES[path], name: something})
        error = response.json()["error"]
        assert (error["param"], error["code"]) == (name, "unsupported_parameter")


async def test_a_new_message_begins_or_the_last_is_continued_as_it_is_done() -> None:
    begun = [HI, {"role": "assistant", "content": "It"}]
    for messages, continues in (([HI], False), (begun, True)):
        for name, is_done in (
            ("add_generation_prompt", not continues),
            ("continue_final_message", continues),
        ):
            await answered("chat/completions", {"messages": messages, name: is_done})
            async with http_around(ScriptedClient(*ANSWER)) as http:
                body = {"messages": messages, name: not is_done}
                response = await http.post("/v1/chat/completions", json=body)
            assert response.json()["error"]["param"] == name


_USER = {"role": "user", "content": "a b c"}
_USAGE = {"include_usage": True}
_CONTINUOUS = {**_USAGE, "continuous_usage_stats": True}
_END = {"max_tokens": 8, "ignore_eos": True}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param(
            "chat/completions",
            {
                "messages": [_USER],
                **_END,
                "min_tokens": 8,
                "cache_prompt": False,
                "stream": True,
                "stream_options": _USAGE,
                "return_token_ids": True,
            },
            id="llama-benchy --exact-tg",
        ),
        pytest.param(
            "completions",
            {
                "prompt": "a b c",
                "repetition_penalty": 1.0,
                "logprobs": None,
                **_END,
                "stream": True,
                "stream_options": _USAGE,
                "temperature": 0.0,
            },
            id="vllm bench serve",
        ),
        pytest.param(
            "chat/completions",
            {
                "messages": [{"role": "user", "content": [{"type": "text", "text": "a b c"}]}],
                "max_completion_tokens": 8,
                "stream": True,
                "stream_options": _USAGE,
            },
            id="vllm bench serve, chat",
        ),
        pytest.param(
            "completions",
            {"prompt": "a", **_END, "stop": None, "stream": True, "stream_options": _CONTINUOUS},
            id="GuideLLM",
        ),
        pytest.param(
            "chat/completions",
            {
                "messages": [_USER],
                "max_completion_tokens": 8,
                "ignore_eos": True,
                "stop": None,
                "stream": True,
                "stream_options": _CONTINUOUS,
            },
            id="GuideLLM, chat; AIPerf",
        ),
        pytest.param(
            "completions",
            {"prompt": "a", "temperature": 0.0, "best_of": 1, "stream": True, **_END},
            id="SGLang's bench_serving",
        ),
        pytest.param(
            "completions",
            {"prompt": ["a b c"], "max_tokens": 8, "stream": True},
            id="GenAI-Perf",
        ),
        pytest.param(
            "chat/completions",
            {
                "messages": [{"role": "system", "content": ""}, _USER],
                "stream": True,
                "max_tokens": 8,
            },
            id="llmperf",
        ),
        pytest.param(
            "completions",
            {
                "prompt": [[1, 2, 3], [4, 5]],
                "temperature": 0,
                "max_tokens": 1,
                "logprobs": 1,
                "seed": 1234,
                "echo": True,
            },
            id="lm-evaluation-harness, likelihoods",
        ),
        pytest.param(
            "completions",
            {
                "prompt": [[1, 2, 3]],
                "temperature": 0,
                "max_tokens": 8,
                "seed": 1234,
                "stop": ["\n\n", "</s>"],
            },
            id="lm-evaluation-harness",
        ),
        pytest.param(
            "chat/completions",
            {
                "messages": [{**_USER, "type": "text"}],
                "temperature": 0,
                "max_tokens": 8,
                "stop": ["</s>"],
                "seed": 1234,
            },
            id="lm-evaluation-harness, chat",
        ),
        pytest.param(
            "chat/completions",
            {
                "messages": [{"role": "system", "content": "You code."}, _USER],
                "max_tokens": 8,
                "temperature": 1,
                "n": 2,
                "top_p": 0.95,
            },
            id="EvalPlus",
        ),
    ],
)
async def test_harnesses_and_load_generators_are_answered_and_nothing_of_theirs_is_ignored(
    path: str, body: dict[str, Any]
) -> None:
    response, _ = await answered(path, body)
    assert "x-ignored-parameters" not in response.headers

"""`return_token_ids` of a real server: the ids that /completion and /tokenize give too."""

from __future__ import annotations

from typing import Any

import httpx
import openai

from tests.serve.server import StartServer

PROMPT = "It was the best of times, it was the worst of times, it was the"


def test_ids_are_those_sampled_and_those_of_the_prompt(start_server: StartServer) -> None:
    url = start_server("novels-6m").url
    with httpx.Client(base_url=url, timeout=60) as http:

        def post(path: str, **fields: Any) -> Any:
            response = http.post(path, json=fields)
            assert response.status_code == 200, response.text
            return response.json()

        def same(max_tokens: int, **fields: Any) -> tuple[Any, Any]:
            """The choice of /v1/completions, and /completion's."""
            body = {"prompt": PROMPT, "max_tokens": max_tokens, "seed": 7, **fields}
            completion = post("/v1/completions", return_token_ids=True, **body)
            native = post("/completion", return_tokens=True, **body)
            [choice] = completion["choices"]
            assert choice["token_ids"] == native["tokens"]
            assert choice["text"] == native["content"]
            assert completion["usage"]["completion_tokens"] == len(native["tokens"])
            assert completion["usage"]["prompt_tokens"] == len(choice["prompt_token_ids"])
            return choice, native

        tokens = post("/tokenize", content=PROMPT, parse_special=False)["tokens"]
        choice, _ = same(24, ignore_eos=True)
        assert choice["prompt_token_ids"] == tokens
        assert len(choice["token_ids"]) == 24
        assert post("/detokenize", tokens=choice["token_ids"])["content"] == choice["text"]
        # a stop string's ids are sampled ones, but for those behind it
        stop = choice["text"][9:14]
        cut, _ = same(24, ignore_eos=True, stop=[stop])
        assert cut["finish_reason"] == "stop"
        assert cut["token_ids"] == choice["token_ids"][: len(cut["token_ids"])]
        whole = post("/detokenize", tokens=cut["token_ids"])["content"]
        assert whole.startswith(cut["text"] + stop)
        # the end token too
        end, native = same(24, logit_bias={"0": 100})
        assert (end["finish_reason"], native["stop_type"]) == ("stop", "eos")
        assert (end["text"], end["token_ids"]) == ("", [0])


def test_streams_have_the_same_ids_chunk_by_chunk(start_server: StartServer) -> None:
    messages: list[Any] = [{"role": "user", "content": "Tell me of the sea, the sea, the sea."}]
    fields: dict[str, Any] = {"model": "novels-6m", "messages": messages, "max_tokens": 24}
    asked = {"return_token_ids": True, "ignore_eos": True}
    with openai.OpenAI(
        base_url=f"{start_server('novels-6m').url}/v1", api_key="none", max_retries=0
    ) as api:
        whole: Any = api.chat.completions.create(
            **fields, seed=3, n=2, logprobs=True, extra_body=asked
        ).to_dict()
        stream = api.chat.completions.create(**fields, seed=3, n=2, stream=True, extra_body=asked)
        chunks: list[Any] = [chunk.to_dict() for chunk in stream]
    assert [chunk["prompt_token_ids"] for chunk in chunks if "prompt_token_ids" in chunk] == [
        whole["prompt_token_ids"]
    ] * 2
    for index, choice in enumerate(whole["choices"]):
        own = [each["choices"][0] for each in chunks if each["choices"][0]["index"] == index]
        ids = [token for each in own for token in each.get("token_ids", [])]
        assert ids == choice["token_ids"]
        assert len(ids) == len(choice["logprobs"]["content"]) == 24
        assert (
            "".join(each["delta"].get("content", "") for each in own)
            == (choice["message"]["content"])
        )

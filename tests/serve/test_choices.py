"""Several answers and log-probabilities from the real model, over a real connection,
counted to the token.
"""

from __future__ import annotations

import math
import re

import openai

from tests.serve.server import StartServer

PROMPT = "The old house by the sea had stood empty for many years, " * 12


def test_four_answers_compute_their_prompt_once(start_server: StartServer) -> None:
    server = start_server("novels-6m", "--log-level", "debug")
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as api:
        several = api.completions.create(
            model="novels-6m",
            prompt=PROMPT,
            n=4,
            seed=7,
            max_tokens=8,
            temperature=1,
            extra_body={"ignore_eos": True},
        )
        steps = [int(rows) for rows in re.findall(r"step \d+: (\d+) rows", server.log)]
        alone = api.completions.create(
            model="novels-6m",
            prompt=PROMPT,
            seed=9,
            max_tokens=8,
            temperature=1,
            extra_body={"ignore_eos": True},
        )
    assert several.usage is not None
    num_prompt_tokens = several.usage.prompt_tokens
    assert several.usage.completion_tokens == 4 * 8
    assert several.usage.prompt_tokens_details is not None
    assert several.usage.prompt_tokens_details.cached_tokens == 0
    assert sum(steps) == num_prompt_tokens + 3 + 4 * 7
    assert [choice.index for choice in several.choices] == [0, 1, 2, 3]
    texts = [choice.text for choice in several.choices]
    assert len(set(texts)) == 4
    assert texts[2] == alone.choices[0].text, "seeds count upwards from the one given"


def test_the_log_probabilities_of_a_greedy_answer(start_server: StartServer) -> None:
    with openai.OpenAI(
        base_url=f"{start_server('novels-6m').url}/v1", api_key="none", max_retries=0
    ) as api:
        chat = api.chat.completions.create(
            model="novels-6m",
            messages=[{"role": "user", "content": "The old house"}],
            temperature=0,
            max_tokens=12,
            logprobs=True,
            top_logprobs=20,
            extra_body={"ignore_eos": True},
        )
        cut = api.completions.create(
            model="novels-6m", prompt=PROMPT, temperature=0, max_tokens=24, logprobs=0
        )
        [choice] = chat.choices
        assert choice.logprobs is not None
        tokens = choice.logprobs.content or []
        assert len(tokens) == 12
        assert (
            b"".join(bytes(token.bytes or []) for token in tokens).decode()
            == choice.message.content
        )
        for token in tokens:
            logprobs = [top.logprob for top in token.top_logprobs]
            assert token.logprob <= logprobs[0], (
                "only the end token, which is ignored, may be likelier"
            )
            assert logprobs == sorted(logprobs, reverse=True)
            assert sum(map(math.exp, logprobs)) <= 1 + 1e-6
        columns = cut.choices[0].logprobs
        assert columns is not None
        assert columns.tokens is not None
        assert "".join(columns.tokens) == cut.choices[0].text
        assert columns.text_offset == [
            len("".join(columns.tokens[:at])) for at in range(len(columns.tokens))
        ]

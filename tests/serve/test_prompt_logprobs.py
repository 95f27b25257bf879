"""`echo` with `logprobs` from the real model, as lm-evaluation-harness asks for it."""

from __future__ import annotations

import httpx
import openai
import pytest

from tests.serve.server import StartServer

CONTEXT = "The old house by the sea had stood empty for many years, "
CONTINUATION = "and nobody knew who owned it."


def test_prompts_are_scored_token_by_token(start_server: StartServer) -> None:
    server = start_server("novels-6m")
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as api:

        def tokens_of(text: str) -> list[int]:
            answer = httpx.post(
                f"{server.url}/tokenize", json={"content": text, "parse_special": False}
            )
            tokens: list[int] = answer.json()["tokens"]
            return tokens

        prompt = tokens_of(CONTEXT + CONTINUATION)
        scored = api.completions.create(
            model="novels-6m", prompt=prompt, max_tokens=0, echo=True, logprobs=5
        )
        [choice] = scored.choices
        columns = choice.logprobs
        assert columns is not None
        names, values, tops, offsets = (
            columns.tokens,
            columns.token_logprobs,
            columns.top_logprobs,
            columns.text_offset,
        )
        assert names is not None
        assert values is not None
        assert tops is not None
        assert offsets is not None
        assert (choice.text, choice.finish_reason) == (CONTEXT + CONTINUATION, "length")
        assert scored.usage is not None
        assert (scored.usage.prompt_tokens, scored.usage.completion_tokens) == (len(prompt), 0)
        assert len(names) == len(values) == len(tops) == len(offsets) == len(prompt)
        assert values[0] is None
        assert tops[0] is None
        for at in range(1, len(prompt)):
            assert 5 <= len(tops[at]) <= 6
            assert max(tops[at].values()) >= values[at]
            assert tops[at][names[at]] == values[at]
        assert "".join(names) == choice.text
        assert offsets == [len("".join(names[:at])) for at in range(len(names))]

        # One token more than the prompt, as the harness asks; what it reports of the
        # prompt is the same.
        longer = api.completions.create(
            model="novels-6m", prompt=prompt, max_tokens=1, echo=True, logprobs=1, temperature=0
        )
        reported = longer.choices[0].logprobs
        assert reported is not None
        assert reported.token_logprobs is not None
        assert reported.text_offset is not None
        assert len(reported.token_logprobs) == len(prompt) + 1
        assert reported.token_logprobs[1:-1] == pytest.approx(values[1:], abs=0.02)
        assert reported.text_offset[:-1] == offsets
        assert reported.text_offset[-1] == len(choice.text)

        # What a token was given as an answer is what it is given in a prompt.
        greedy = api.completions.create(
            model="novels-6m",
            prompt=prompt,
            max_tokens=4,
            logprobs=0,
            temperature=0,
            extra_body={"ignore_eos": True},
        )
        answered = greedy.choices[0].logprobs
        assert answered is not None
        assert answered.token_logprobs is not None
        again = api.completions.create(
            model="novels-6m",
            prompt=[*prompt, *tokens_of(greedy.choices[0].text)],
            max_tokens=0,
            echo=True,
            logprobs=0,
        )
        repeated = again.choices[0].logprobs
        assert repeated is not None
        assert repeated.token_logprobs is not None
        assert repeated.token_logprobs[len(prompt) :] == pytest.approx(
            answered.token_logprobs, abs=0.02
        )

        # Streamed, the pieces are those of the whole.
        stream = api.completions.create(
            model="novels-6m", prompt=prompt, max_tokens=0, echo=True, logprobs=5, stream=True
        )
        text, streamed = "", list[str]()
        for chunk in stream:
            text += chunk.choices[0].text
            part = chunk.choices[0].logprobs
            streamed += (part.tokens or []) if part is not None else []
        assert (text, streamed) == (choice.text, names)

        plain = api.completions.create(
            model="novels-6m", prompt="The old house", max_tokens=0, echo=True
        )
        assert (plain.choices[0].text, plain.choices[0].logprobs) == ("The old house", None)

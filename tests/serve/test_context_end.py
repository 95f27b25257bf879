"""The end of the context over a real connection, and a prefix that is kept because the
request said so.
"""

from __future__ import annotations

from pathlib import Path

import openai

from tests.serve.server import StartServer

PROMPT = "The old house by the sea had stood empty for many years, " * 3


def test_the_context_ends_the_answer_or_is_shifted_and_that_is_said(
    start_server: StartServer,
) -> None:
    server = start_server("novels-6m", "--ctx", "128")
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as api:
        ended = api.completions.create(
            model="novels-6m",
            prompt=PROMPT,
            max_tokens=300,
            temperature=0,
            extra_body={"ignore_eos": True},
        )
        shifted = api.completions.create(
            model="novels-6m",
            prompt=PROMPT,
            max_tokens=300,
            temperature=0,
            extra_body={"ignore_eos": True, "context_shift": True},
        )
    assert ended.usage is not None
    assert shifted.usage is not None
    num_prompt_tokens = ended.usage.prompt_tokens
    assert ended.choices[0].finish_reason == "length"
    assert ended.usage.total_tokens == 128
    assert "discarded_tokens" not in (ended.usage.model_extra or {})
    assert (shifted.choices[0].finish_reason, shifted.usage.completion_tokens) == ("length", 300)
    assert shifted.choices[0].text.startswith(ended.choices[0].text)
    # Full at 128 tokens; then half of what is behind the prompt's beginning goes, again
    # and again.
    num_tokens, num_discarded = num_prompt_tokens, 0
    for at in range(300):
        num_tokens += 1
        if num_tokens == 128 and at < 299:
            num_gone = (128 - min(num_prompt_tokens, 64) + 1) // 2
            num_tokens, num_discarded = num_tokens - num_gone, num_discarded + num_gone
    assert (shifted.usage.model_extra or {})["discarded_tokens"] == num_discarded


def test_a_prefix_marked_keep_is_on_disk_after_one_use(
    start_server: StartServer, home: Path
) -> None:
    server = start_server("novels-6m", "--ctx", "512")
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as api:
        for text, extra in ((PROMPT * 7, {}), ("He said: " + PROMPT * 7, {"cache": "keep"})):
            api.completions.create(model="novels-6m", prompt=text, max_tokens=1, extra_body=extra)
    server.process.terminate()
    assert server.process.wait(60) == 0
    assert len(list(home.rglob("*.prefix"))) == 1

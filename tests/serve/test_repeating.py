"""The same request gets the same text, whatever was asked between: counted."""

from __future__ import annotations

import random

import httpx
import pytest

from tests.serve.server import Server, StartServer

PROMPTS = (
    "Tell me about the sea.",
    "What is the capital of Japan, and why?",
    "The old house by the hill",
    "Write a letter to a friend about the winter in the north. " * 3,
    "A list of birds: the crow, the owl, the heron, the wren. " * 5,
    "Once upon a time there was a king who had three sons. " * 7,
    "Summarize: the train left at noon and came back in the evening. " * 9,
    "He said that he would come, and then he did not. " * 14,
)
DRAWN = {"temperature": 0.8, "seed": 11}
GREEDY = {"temperature": 0}
ENDLESS = {"max_tokens": 24, "ignore_eos": True}


def num_changed(http: httpx.Client) -> tuple[int, int]:
    """(requests whose texts were not all the same, requests)."""
    rng = random.Random(3)
    asked = [(prompt, how) for prompt in PROMPTS for how in (DRAWN, GREEDY)] * 2
    rng.shuffle(asked)
    texts: dict[str, set[str]] = {}
    for prompt, how in asked:
        body = {"messages": [{"role": "user", "content": prompt}], **ENDLESS}
        response = http.post("/v1/chat/completions", json={**body, **how})
        assert response.status_code == 200, response.text
        text = response.json()["choices"][0]["message"]["content"]
        texts.setdefault(f"{prompt} {how}", set()).add(text)
        if rng.random() < 0.25:  # one without a seed leaves cells of other steps, by drafts too
            http.post("/v1/chat/completions", json=body)
    return sum(len(each) > 1 for each in texts.values()), len(texts)


def test_the_embedded_model_repeats_its_answers(start_server: StartServer) -> None:
    with httpx.Client(base_url=start_server("novels-6m").url, timeout=120) as http:
        assert num_changed(http) == (0, 16)


@pytest.mark.usefixtures("real_model")
def test_the_real_model_repeats_its_answers(real_server: Server) -> None:
    with httpx.Client(base_url=real_server.url, timeout=120) as http:
        assert num_changed(http) == (0, 16)

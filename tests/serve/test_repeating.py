"""The same request gets the same text, whatever was asked between; with kernels of our
own, whatever runs beside it: counted.
"""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from appliance.llama.checks import find_kernels
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
EXACT = ("--kernels", "on", "--exact", "on")
_KERNELS = find_kernels()
with_kernels = pytest.mark.skipif(isinstance(_KERNELS, str), reason=f"our own kernels {_KERNELS}")


def texts_of(http: httpx.Client) -> dict[str, set[str]]:
    """Of each request, all that was answered to it."""
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
    return texts


def num_changed(http: httpx.Client) -> tuple[int, int]:
    """(requests whose texts were not all the same, requests)."""
    texts = texts_of(http)
    return sum(len(each) > 1 for each in texts.values()), len(texts)


def test_the_embedded_model_repeats_its_answers(start_server: StartServer) -> None:
    with httpx.Client(base_url=start_server("novels-6m").url, timeout=120) as http:
        assert num_changed(http) == (0, 16)


@pytest.mark.usefixtures("real_model")
def test_the_real_model_repeats_its_answers(real_server: Server) -> None:
    with httpx.Client(base_url=real_server.url, timeout=120) as http:
        assert num_changed(http) == (0, 16)


@contextlib.contextmanager
def company(url: str, num_streams: int) -> Iterator[list[int]]:
    """Others who ask all the time, with drafts and without; yields how much."""
    is_over = threading.Event()
    answered: list[int] = []

    def ask(at: int) -> None:
        rng = random.Random(at)
        with httpx.Client(base_url=url, timeout=120) as http:
            while not is_over.is_set():
                messages = [{"role": "user", "content": rng.choice(PROMPTS)[rng.randrange(20) :]}]
                body = {"messages": messages, "max_tokens": rng.randrange(1, 40)}
                answered.append(http.post("/v1/chat/completions", json=body).status_code)

    threads = [threading.Thread(target=ask, args=(at,)) for at in range(num_streams)]
    for thread in threads:
        thread.start()
    try:
        yield answered
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


def check_beside_others(server: Server) -> None:
    """Alone, then beside others: the same texts all the time."""
    [model] = server.processes()["models"]
    assert model["exact_rows"]
    assert not model["speculation"].startswith("off")
    with httpx.Client(base_url=server.url, timeout=120) as http:
        alone = texts_of(http)
        with company(server.url, 3) as answered:
            beside = texts_of(http)
    assert len(alone) == 16
    assert len(answered) > 16
    assert set(answered) == {200}
    together = {asked: alone[asked] | beside[asked] for asked in alone}
    assert [asked for asked, texts in together.items() if len(texts) > 1] == []


@with_kernels
def test_with_kernels_it_does_beside_others_and_drafted_for_too(
    start_server: StartServer,
) -> None:
    check_beside_others(start_server("novels-6m", *EXACT))


@with_kernels
def test_so_does_the_real_model(start_server: StartServer, real_model: Path) -> None:
    check_beside_others(start_server(str(real_model), "--ctx", "2048", *EXACT))


def test_without_them_who_demands_it_is_refused(start_server: StartServer) -> None:
    server = start_server("novels-6m", "--kernels", "off")
    with httpx.Client(base_url=server.url, timeout=120) as http:
        assert http.get("/props").json()["exact_rows"] is False
        body = {"prompt": "Once", "max_tokens": 1}
        refused = http.post("/v1/completions", json={**body, "exact": True})
        assert refused.status_code == 400
        assert refused.json()["error"]["param"] == "exact"
        assert "--kernels on" in refused.json()["error"]["message"]
        assert http.post("/v1/completions", json=body).status_code == 200

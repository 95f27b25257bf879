"""Chats with a real server, on each kind of memory whose sequences share no cells: what is
computed is counted through the API, and answers are those of a server that keeps nothing.
"""

from __future__ import annotations

import random
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from bench.memory_kinds import KINDS
from tests.conftest import Embedded
from tests.serve.server import Server, StartServer

FLAGS = ("--ctx", "1024", "--slots", "2", "--kv-cells", "4096", "--repeatable", "off")
ANSWER, QUESTION = 20, 30  # tokens
GREEDY = {"max_tokens": ANSWER, "temperature": 0, "ignore_eos": True, "return_tokens": True}
SYSTEM = {"role": "system", "content": "Answer as a sailor would, in few words. " * 12}


def words(seed: int, count: int) -> list[int]:
    chance = random.Random(seed)
    return [chance.randrange(300, 2000) for _ in range(count)]


def ask(http: httpx.Client, prompt: list[int], **how: Any) -> tuple[list[int], int]:
    """The answer's tokens, and how many of the prompt were known."""
    response = http.post("/completion", json={"prompt": prompt, **GREEDY, **how})
    assert response.status_code == 200, response.text
    body = response.json()
    tokens: list[int] = body["tokens"]
    assert body["timings"]["prompt_n"] + body["timings"]["cache_n"] == len(prompt)
    return tokens, body["timings"]["cache_n"]


def check_turns(http: httpx.Client, seed: int) -> list[int]:
    """Ten turns, each of which computes its new tokens alone, the answer's last one among
    them, which was sampled and not computed. Returns the chat.
    """
    chat = words(seed, 120)
    for turn in range(10):
        answer, num_known = ask(http, chat)
        assert num_known == (0 if turn == 0 else len(chat) - QUESTION - 1)
        if turn in (1, 9):
            assert ask(http, chat, cache_prompt=False) == (answer, 0)
        chat += [*answer, *words(1000 * seed + turn, QUESTION)]
    return chat


def check_messages(url: str) -> None:
    """A later turn goes on from where the answer's own text began, even where that comes
    back otherwise; and another chat from the end of the system message.
    """
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as api:
        model = api.models.list().data[0].id

        def chat(*messages: Any) -> tuple[int, int]:
            usage = api.chat.completions.create(
                model=model, messages=[SYSTEM, *messages], max_tokens=8, temperature=0
            ).usage
            assert usage is not None
            assert usage.prompt_tokens_details is not None
            return usage.prompt_tokens, usage.prompt_tokens_details.cached_tokens or 0

        asked = {"role": "user", "content": "What will the weather be tomorrow?"}
        num_tokens, num_cached = chat(asked)
        assert num_cached == 0
        answer = {"role": "assistant", "content": "Rain, and then more of it."}
        assert chat(asked, answer, {"role": "user", "content": "And then?"})[1] == num_tokens - 1
        other, num_cached = chat({"role": "user", "content": "Sing!"})
        assert 64 < num_cached < other < num_tokens


def check_choices(http: httpx.Client) -> None:
    prompt = words(20, 100)
    body = {"prompt": prompt, "n": 3, "max_tokens": 6, "temperature": 0, "ignore_eos": True}
    choices = http.post("/v1/completions", json=body).json()["choices"]
    [alone] = http.post("/v1/completions", json={**body, "n": 1}).json()["choices"]
    assert [each["text"] for each in choices] == [alone["text"]] * 3
    assert ask(http, prompt)[1] == 99


def check_cancelled(http: httpx.Client) -> None:
    """A client goes away while it is answered; the next one goes on from what there is."""
    prompt = words(30, 600)
    body = {"prompt": prompt, "stream": True, "max_tokens": 400, "ignore_eos": True}
    with http.stream("POST", "/v1/completions", json=body) as stream:
        next(stream.iter_lines())
    assert ask(http, prompt) == (ask(http, prompt, cache_prompt=False)[0], 599)


def check_slots(http: httpx.Client, chat: list[int]) -> None:
    """What a chat's slot left is saved whole, erased and restored."""
    ask(http, chat)
    num_tokens = len(chat) + ANSWER - 1
    [slot] = [slot for slot in (0, 1) if slot_action(http, slot, "save") == num_tokens]
    assert ask(http, chat, max_tokens=1)[1] == len(chat) - 1
    [slot] = [slot for slot in (0, 1) if slot_action(http, slot, "save") == len(chat) - 1]
    slot_action(http, slot, "erase")
    assert ask(http, chat, max_tokens=1)[1] < len(chat) - 1
    assert slot_action(http, slot, "restore") == len(chat) - 1
    assert ask(http, chat, max_tokens=1)[1] == len(chat) - 1


def slot_action(http: httpx.Client, slot: int, action: str) -> int:
    answer = http.post(f"/slots/{slot}?action={action}", json={"filename": "a"}).json()
    return int(answer.get("n_saved", answer.get("n_restored", 0)))


@pytest.mark.parametrize("kind", KINDS)
def test_each_turn_computes_only_what_is_new(
    kind: str, embedded: Embedded, start_server: StartServer, tmp_path: Path
) -> None:
    model = KINDS[kind](embedded.files["Q8_0"], tmp_path / f"{kind}.gguf")
    flags = (str(model), *FLAGS, "--state-dir", str(tmp_path / "state"))
    server = start_server(*flags)
    with httpx.Client(base_url=server.url, timeout=60) as http:
        chat = check_turns(http, 1)
        with ThreadPoolExecutor(3) as pool:  # on two slots
            chats = list(pool.map(lambda seed: check_turns(http, seed), (2, 3, 4)))
        check_choices(http)
        check_cancelled(http)
        check_slots(http, chats[0])
    check_messages(server.url)
    stop(server)
    server = start_server(*flags)
    with httpx.Client(base_url=server.url, timeout=60) as http:
        for each in (chat, *chats):
            assert ask(http, each)[1] == len(each) - QUESTION - 1
    server.worker().kill()
    server.await_line(" died ")
    with httpx.Client(base_url=server.url, timeout=60) as http:
        assert ask(http, chat)[1] >= len(chat) - QUESTION - 1


def stop(server: Server) -> None:
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60) == 0

"""Chats on each kind of memory whose sequences share no cells, through HTTP, counted to the
row: each turn computes only its new tokens, after a restart and a kill too.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from appliance.llama.checks import find_kernels
from bench.memory_kinds import KINDS, TINY
from tests.conftest import Embedded
from tests.serve.server import Server, StartServer

ANSWER = 20  # tokens
NUM_CHOICES = 3
WORD = " sea"  # of one token: an answer of nothing else is tokenized as it was sampled
SYSTEM = "You are the keeper of an old house by the sea, and you answer in few words. " * 6
FLAGS = ("--ctx", "1024", "--slots", "2", "--prefix-host-bytes", "64M", "--prompt-lookup", "off")


@dataclass
class Chat:
    """With one model; `num_rows` are those that its requests have to take."""

    http: httpx.Client
    model: str
    messages: list[dict[str, str]] = field(default_factory=list)
    num_known: int = 0  # tokens of what was computed so far
    num_before: int = 0  # the same, a turn ago
    num_rows: int = 0
    how: dict[str, object] = field(default_factory=dict)

    def ask(self, num_choices: int = 1, *, is_saved: bool = True) -> None:
        """One more turn: what was said before is cached to the token; not `is_saved`: or
        all but the last answer, or turn, for whose file nobody may have had the time.
        """
        if not self.messages:
            self.messages.append({"role": "system", "content": SYSTEM})
        turn = len(self.messages)
        self.messages.append({"role": "user", "content": f"And what came on day {turn}, and why?"})
        num_prompt, num_cached = self._answer({"messages": self.messages, "n": num_choices})
        # a prompt's state is kept before its last token, an answer's before its last too
        in_time = {self.num_before, self.num_known - ANSWER, self.num_known}
        assert num_cached in ({self.num_known} if is_saved else in_time)
        self.messages.append({"role": "assistant", "content": WORD * ANSWER})
        self.num_before, self.num_known = self.num_known, num_prompt + ANSWER - 1

    def _answer(self, body: dict[str, Any]) -> tuple[int, int]:
        """Tokens of the prompt, and how many of them were cached."""
        forced = {"max_tokens": ANSWER, "temperature": 0, "logit_bias": {self._word: 100}}
        response = self.http.post(
            "/v1/chat/completions", json={"model": self.model, **forced, **self.how, **body}
        )
        assert response.status_code == 200, response.text
        found = response.json()
        texts = [choice["message"]["content"] for choice in found["choices"]]
        assert texts == [WORD * ANSWER] * len(texts)
        num_prompt: int = found["usage"]["prompt_tokens"]
        num_cached: int = found["usage"]["prompt_tokens_details"]["cached_tokens"]
        # of the other choices the prompt's last token alone
        self.num_rows += num_prompt - num_cached + len(texts) - 1 + len(texts) * (ANSWER - 1)
        return num_prompt, num_cached

    @property
    def _word(self) -> str:
        body = {"model": self.model, "content": WORD}
        [token] = self.http.post("/tokenize", json=body).json()["tokens"]
        return str(token)


@pytest.fixture
def models(embedded: Embedded, tmp_path: Path) -> Path:
    """A folder with one of each kind."""
    for kind, write in KINDS.items():
        folder = tmp_path / "models" / kind
        folder.mkdir(parents=True)
        write(embedded.files["Q8_0"], folder / f"{kind}-F32.gguf", TINY)
    return tmp_path / "models"


def client(server: Server) -> httpx.Client:
    return httpx.Client(base_url=server.url, timeout=120)


def end(server: Server) -> None:
    """As by its user: what is worth a file is written."""
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60) == 0, server.log


def check_rows(http: httpx.Client, chats: list[Chat]) -> None:
    """What the workers have computed since they started, as their next heartbeats say."""
    expected = {chat.model: chat.num_rows for chat in chats}
    found: dict[str, int] = {}
    while found.keys() != expected.keys() or any(found[m] < expected[m] for m in found):
        samples = text_string_to_metric_families(http.get("/metrics").text)
        found = {
            sample.labels["model"]: int(sample.value)
            for family in samples
            for sample in family.samples
            if sample.name == "appliance_engine_rows_total"
        }
    assert found == expected


def test_a_turn_computes_only_what_is_new(
    start_server: StartServer, models: Path, tmp_path: Path
) -> None:
    flags = (*KINDS, "--models-dir", str(models), "--state-dir", str(tmp_path / "state"), *FLAGS)
    flags = (*flags, "--kernels", "off", "--repeatable", "off")
    server = start_server(*flags)
    with client(server) as http:
        chats = [Chat(http, model) for model in KINDS]
        for chat in chats:
            for num_choices in (1, 1, NUM_CHOICES):
                chat.ask(num_choices)
        check_rows(http, chats)
        end(server)

    server = start_server(*flags)
    with client(server) as http:
        for chat in chats:
            chat.http, chat.num_rows = http, 0
            chat.ask()
        check_rows(http, chats)
        for worker in psutil.Process(server.process.pid).children():
            worker.kill()
        for chat in chats:
            chat.num_rows = 0
            chat.ask(is_saved=False)
        check_rows(http, chats)


@pytest.mark.skipif(isinstance(find_kernels(), str), reason="needs our own kernels")
def test_so_does_one_that_repeats_its_answer_where_rows_are_exact(
    start_server: StartServer, models: Path
) -> None:
    """`--repeatable` and temperature 0 cost nothing then."""
    model = "delta-net"
    server = start_server(model, "--models-dir", str(models), *FLAGS, "--kernels", "on")
    with client(server) as http:
        chat = Chat(http, model, how={"exact": True})
        for _ in range(3):
            chat.ask()
        check_rows(http, [chat])

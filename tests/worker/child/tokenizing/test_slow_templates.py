"""A chat template that goes on for ever delays its own request, and nobody else's."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

import pytest

from appliance.engine.constraint import Constraint
from appliance.protocol.events import AskResult, Failed
from appliance.protocol.questions import Question, RenderChat, Tokenize
from appliance.protocol.requests import ChatPrompt, GenerateRequest, Grammar, TextPrompt
from appliance.worker.child.tokenizing import lanes
from appliance.worker.child.tokenizing.grammars import LazyGrammars
from appliance.worker.child.tokenizing.lanes import SHORT_BYTES, Tokenizing
from appliance.worker.child.tokenizing.output_formats import OutputFormats
from appliance.worker.child.tokenizing.prompts import Prompts
from appliance.worker.child.tokenizing.text_requests import Prepared, TextRequests
from appliance.worker.frames import AskQuestion, Submit

WAIT_S = 60.0  # for what takes a second
SLOW_CPU_S = 0.5
HOSTILE = (
    "{% if messages[-1].content == 'attack' %}{% for i in range(99999) %}"
    "{% for j in range(99999) %}{% endfor %}{% endfor %}{% endif %}"
    "{% if messages[-1].content == 'linger' %}{% for i in range(90) %}"
    "{% for j in range(30000) %}{% endfor %}{% endfor %}{% endif %}"
    "{{ messages[-1].content }}"
)
ATTACK = ChatPrompt(messages=[{"role": "user", "content": "attack"}])
CALM = ChatPrompt(messages=[{"role": "user", "content": "calm"}])


class Letters:
    """A token per byte."""

    bos = None
    eos = None
    adds_bos = False
    num_vocab = 256
    adds_space_prefix = prefixes_blanks = False
    end_tokens: frozenset[int] = frozenset()

    def __init__(self) -> None:
        self.fim_tokens: dict[str, int] = {}

    def piece(self, token: int) -> bytes:
        return bytes([token])

    written = piece

    def begins_text(self, _token: int) -> bool:
        return False

    read_piece = piece

    def metadata(self, key: str) -> str | None:
        return HOSTILE if key == "tokenizer.chat_template" else None

    def text_of(self, _token: int | None) -> str:
        return ""

    def longest_piece_bytes(self) -> int:
        return 1

    def tokenize(self, text: str, *, parse_special: bool) -> list[int]:
        return list(text.encode())


class NoGrammars(LazyGrammars):
    def compile(self, grammar: Grammar) -> Constraint:
        raise AssertionError(grammar.source)


class Bench:
    """A `Tokenizing` whose lanes run when the test says so."""

    def __init__(self) -> None:
        vocabulary = Letters()
        self.done: queue.SimpleQueue[Prepared | AskResult | Failed] = queue.SimpleQueue()
        prompts = Prompts(vocabulary, ctx=100)
        formats = OutputFormats(vocabulary, NoGrammars(vocabulary))
        self.tokenizing = Tokenizing(prompts, TextRequests(prompts, formats), self.done.put)
        self.start(self.tokenizing.run_short)
        self.start(self.tokenizing.run_long)

    def start(self, run: Callable[[], None]) -> None:
        threading.Thread(target=run, daemon=True).start()

    def submit(self, request_id: int, prompt: ChatPrompt | TextPrompt, num_bytes: int = 1) -> None:
        self.tokenizing.submit(Submit(request_id, GenerateRequest(prompt=prompt)), num_bytes)

    def ask(self, request_id: int, question: Question) -> None:
        self.tokenizing.submit(AskQuestion(request_id, question), 1)

    def next_done(self) -> Prepared | AskResult | Failed:
        return self.done.get(timeout=WAIT_S)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(lanes, "MAX_CPU_S", SLOW_CPU_S)
    return Bench()


def test_others_are_prepared_and_answered_before_an_attack_is_stopped(bench: Bench) -> None:
    bench.submit(1, ATTACK)
    bench.submit(2, ATTACK, SHORT_BYTES + 1)
    bench.ask(3, RenderChat(ATTACK))
    bench.submit(4, CALM)
    bench.submit(5, TextPrompt("text"))
    bench.submit(6, CALM, SHORT_BYTES + 1)
    bench.ask(7, Tokenize(CALM))
    finished = [bench.next_done() for _ in range(4)]
    assert sorted(done.request_id for done in finished) == [4, 5, 6, 7]
    assert not any(isinstance(done, Failed) for done in finished)
    assert bench.done.empty(), "the lane for slow templates has no thread yet"
    bench.start(bench.tokenizing.run_slow)
    for _ in range(3):
        failed = bench.next_done()
        assert isinstance(failed, Failed)
        assert failed.request_id in (1, 2, 3)
        assert (failed.error.code, failed.error.param) == ("chat_template_error", "messages")
        assert failed.error.message == (
            "The model's chat template took more than 0.5 s of processor time on these "
            "messages, and was stopped."
        )


def test_an_attack_that_nobody_waits_for_any_more_is_not_begun_again(bench: Bench) -> None:
    bench.submit(1, ATTACK)
    bench.submit(2, CALM)
    assert bench.next_done().request_id == 2
    bench.tokenizing.cancel(1)
    bench.start(bench.tokenizing.run_slow)
    bench.ask(3, RenderChat(ATTACK))
    assert bench.next_done().request_id == 3
    assert bench.done.empty()


def test_a_template_that_only_lingers_has_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "QUICK_CPU_S", 0.001)
    bench = Bench()
    bench.start(bench.tokenizing.run_slow)
    bench.submit(1, ChatPrompt(messages=[{"role": "user", "content": "linger"}]))
    prepared = bench.next_done()
    assert isinstance(prepared, Prepared)
    assert prepared.error is None
    assert bytes(prepared.tokens) == b"linger"

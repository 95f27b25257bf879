"""Tokenizing beside everything else,
with a vocabulary that takes as long as the test says.
"""

from __future__ import annotations

import queue
import threading

import pytest

from appliance.engine.constraint import Constraint
from appliance.errors import BadRequest
from appliance.protocol.events import AskResult, Failed
from appliance.protocol.grammar_kind import GrammarKind
from appliance.protocol.questions import Detokenize, Question, Tokenize
from appliance.protocol.requests import GenerateRequest, Grammar, TextPrompt
from appliance.worker.child.tokenizing.grammars import LazyGrammars
from appliance.worker.child.tokenizing.lanes import SHORT_BYTES, Tokenizing
from appliance.worker.child.tokenizing.output_formats import OutputFormats
from appliance.worker.child.tokenizing.prompts import Prompts
from appliance.worker.child.tokenizing.text_requests import Prepared, TextRequests
from appliance.worker.frames import AskQuestion, Submit

WAIT_S = 20.0  # for what happens at once


class GatedVocabulary:
    """A token per character; a text that begins with `slow` is tokenized only once
    `gate` is set.
    """

    bos = None
    eos = None
    adds_bos = False
    num_vocab = 256
    end_tokens: frozenset[int] = frozenset()
    adds_space_prefix = prefixes_blanks = False

    def __init__(self) -> None:
        self.begun: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.gate = threading.Event()

    def piece(self, token: int) -> bytes:
        return bytes([token])

    read_piece = written = piece

    def begins_text(self, _token: int) -> bool:
        return False

    def metadata(self, _key: str) -> str | None:
        return None

    def text_of(self, _token: int | None) -> str:
        return ""

    def longest_piece_bytes(self) -> int:
        return 1

    def tokenize(self, text: str, *, parse_special: bool) -> list[int]:
        assert not parse_special
        self.begun.put(text)
        if text.startswith("slow"):
            assert self.gate.wait(WAIT_S)
        return list(text.encode())


class NoGrammars(LazyGrammars):
    def compile(self, grammar: Grammar) -> Constraint:
        raise BadRequest(f"no {grammar.source}", param=grammar.param)


class BrokenGrammars(LazyGrammars):
    def compile(self, grammar: Grammar) -> Constraint:
        raise ZeroDivisionError(grammar.source)


class Bench:
    """A `Tokenizing` with both its threads, and what it hands over."""

    def __init__(self, grammars: type[LazyGrammars] = NoGrammars) -> None:
        self.vocabulary = GatedVocabulary()
        self.done: queue.SimpleQueue[Prepared | AskResult | Failed] = queue.SimpleQueue()
        prompts = Prompts(self.vocabulary, ctx=100)
        formats = OutputFormats(self.vocabulary, grammars(self.vocabulary))
        self.tokenizing = Tokenizing(prompts, TextRequests(prompts, formats), self.done.put)
        for run in (self.tokenizing.run_short, self.tokenizing.run_long):
            threading.Thread(target=run, daemon=True).start()

    def submit(self, request_id: int, text: str, num_bytes: int) -> None:
        self.tokenizing.submit(
            Submit(request_id, GenerateRequest(prompt=TextPrompt(text))), num_bytes
        )

    def ask(self, request_id: int, question: Question) -> AskResult | Failed:
        self.tokenizing.submit(AskQuestion(request_id, question), 1)
        answer = self.done.get(timeout=WAIT_S)
        assert not isinstance(answer, Prepared)
        return answer

    def next_done(self) -> Prepared:
        prepared = self.done.get(timeout=WAIT_S)
        assert isinstance(prepared, Prepared)
        return prepared


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_short_prompt_does_not_wait_for_a_long_one_and_the_age_is_the_oldest(
    bench: Bench,
) -> None:
    assert bench.tokenizing.age_s() == 0.0
    bench.submit(1, "slow and long", SHORT_BYTES + 1)
    bench.submit(2, "hi", SHORT_BYTES)
    prepared = bench.next_done()
    assert (prepared.request_id, prepared.tokens) == (2, [104, 105])
    assert bench.vocabulary.begun.get(timeout=WAIT_S) in ("slow and long", "hi")
    assert bench.vocabulary.begun.get(timeout=WAIT_S) in ("slow and long", "hi")
    assert 0.0 < bench.tokenizing.age_s() < WAIT_S
    bench.vocabulary.gate.set()
    assert bench.next_done().request_id == 1
    assert bench.tokenizing.age_s() == 0.0


def test_what_is_cancelled_is_dropped_whether_it_waits_or_is_being_tokenized(bench: Bench) -> None:
    bench.submit(1, "slow, being tokenized", 1)
    assert bench.vocabulary.begun.get(timeout=WAIT_S) == "slow, being tokenized"
    bench.submit(2, "waiting", 1)
    bench.submit(3, "kept", 1)
    bench.tokenizing.cancel(1)
    bench.tokenizing.cancel(2)
    bench.tokenizing.cancel(99)  # unknown: ignored
    bench.vocabulary.gate.set()
    assert bench.next_done().request_id == 3
    assert bench.done.empty()
    assert bench.vocabulary.begun.get(timeout=WAIT_S) == "kept", (
        "the one that waited was not even begun"
    )


def test_a_refusal_is_handed_over_as_such(bench: Bench) -> None:
    bench.submit(1, "x" * 101, 1)
    prepared = bench.next_done()
    assert prepared.tokens == []
    assert prepared.error is not None
    assert prepared.error.code == "context_length_exceeded"


def test_a_grammar_that_cannot_be_compiled_is_refused_by_its_field(bench: Bench) -> None:
    request = GenerateRequest(
        prompt=TextPrompt("hi"), grammar=Grammar(GrammarKind.REGEX, "sense", "grammar")
    )
    bench.tokenizing.submit(Submit(1, request), 1)
    error = bench.next_done().error
    assert error is not None
    assert (error.param, error.message) == ("grammar", "no sense")


def test_what_nobody_foresaw_costs_one_request() -> None:
    bench = Bench(BrokenGrammars)
    request = GenerateRequest(
        prompt=TextPrompt("hi"), grammar=Grammar(GrammarKind.REGEX, "x", "grammar")
    )
    bench.tokenizing.submit(Submit(1, request), 1)
    failed = bench.done.get(timeout=WAIT_S)
    assert isinstance(failed, Failed)
    assert (failed.request_id, failed.error.code) == (1, "internal_error")
    bench.submit(2, "goes on", 1)
    assert bench.next_done().request_id == 2


def test_questions_are_answered_while_a_long_prompt_is_tokenized(bench: Bench) -> None:
    bench.submit(1, "slow and long", SHORT_BYTES + 1)
    asked = bench.ask(2, Tokenize(TextPrompt("hé")))
    assert asked == AskResult(2, tokens=[104, 195, 169], pieces=[b"h", b"\xc3", b"\xa9"])
    assert bench.ask(3, Detokenize([104, 195, 169])) == AskResult(3, "hé")
    assert bench.ask(4, Detokenize([195])) == AskResult(4, "\ufffd"), "half a character"
    assert bench.ask(5, Tokenize(TextPrompt("x" * 101))) == AskResult(
        5, tokens=[120] * 101, pieces=[b"x"] * 101
    )
    bench.vocabulary.gate.set()
    assert bench.next_done().request_id == 1


def test_an_unknown_token_is_refused(bench: Bench) -> None:
    refused = bench.ask(1, Detokenize([7, 256]))
    assert isinstance(refused, Failed)
    assert (refused.error.param, refused.error.message) == (
        "tokens",
        "Token ids must be between 0 and 255 (got 256).",
    )

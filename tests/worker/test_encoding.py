"""The loop of an embedding model, with an encoder that takes as long as the test says."""

from __future__ import annotations

import queue
import socket
import struct
import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from appliance.errors import DecodeFailed
from appliance.worker.channel import BlockingChannel
from appliance.worker.encoding import EncodingWorker
from appliance.worker.messages import (
    Answered,
    Ask,
    Cancel,
    Embed,
    Failed,
    GenerateRequest,
    StepEvents,
    Stop,
    Submit,
    TextPrompt,
    TokenPrompt,
    ToWorker,
    decode_from_worker,
    encode,
)
from tests.worker.test_chat_answers import Letters

WAIT_S = 20.0  # for what happens at once


class WholeLetters(Letters):
    def tokenize_whole(self, text: str) -> list[int]:
        return list(text.encode())


class GatedEncoder:
    """Each text's vector is its length and its first token; `gate` lets one computation pass."""

    max_rows = 8
    max_texts = 4

    def __init__(self) -> None:
        self.begun: queue.SimpleQueue[list[list[int]]] = queue.SimpleQueue()
        self.gate = threading.Semaphore(0)
        self.fails = False

    def encode(self, texts: Sequence[Sequence[int]]) -> list[np.ndarray]:
        self.begun.put([list(text) for text in texts])
        assert self.gate.acquire(timeout=WAIT_S)
        if self.fails:
            raise DecodeFailed("as the test wished")
        return [np.array([len(text), text[0]], np.float32) for text in texts]


class Bench:
    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        ours.settimeout(WAIT_S)
        self.encoder = GatedEncoder()
        self.channel = BlockingChannel(ours)
        self.theirs = BlockingChannel(theirs)
        worker = EncodingWorker(self.theirs, self.encoder, WholeLetters(""), ctx=8)
        self.thread = threading.Thread(target=worker.run, daemon=True)
        self.thread.start()

    def send(self, message: ToWorker) -> None:
        self.channel.send(encode(message))

    def embed(self, request_id: int, *texts: str) -> None:
        self.send(Ask(request_id, Embed([TextPrompt(text) for text in texts], "input")))

    def next_event(self) -> Answered | Failed:
        """Heartbeats aside."""
        while not isinstance(message := decode_from_worker(self.channel.receive()), StepEvents):
            pass
        (event,) = message.events
        assert isinstance(event, Answered | Failed)
        return event


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.send(Stop())
    bench.encoder.gate.release(100)
    bench.thread.join(WAIT_S)
    assert not bench.thread.is_alive()
    bench.channel.close()  # which ends the reader, and the heart at its next beat
    for thread in threading.enumerate():
        if thread.name in ("reader", "heart"):
            thread.join(WAIT_S)
    bench.theirs.close()


def numbers(vector: bytes) -> tuple[float, ...]:
    return struct.unpack("<2f", vector)


def test_requests_that_come_meanwhile_are_computed_together(bench: Bench) -> None:
    bench.embed(1, "abc")
    assert len(bench.encoder.begun.get(timeout=WAIT_S)) == 1
    bench.embed(2, "de", "f")
    bench.embed(3, "gh")
    bench.send(Ask(4, Embed([TokenPrompt([7])], "input")))
    # A question about letters comes last: once it is answered, all the others have been read.
    bench.encoder.gate.release()
    assert bench.next_event() == Answered(1, vectors=[struct.pack("<2f", 3, ord("a"))], num_tokens=3)
    assert len(bench.encoder.begun.get(timeout=WAIT_S)) >= 2, "a request is never taken apart without need"
    bench.encoder.gate.release(3)
    answers = {event.request_id: event for event in (bench.next_event() for _ in range(3))}
    assert [numbers(vector) for vector in answers[2].vectors] == [(2, ord("d")), (1, ord("f"))]
    assert [numbers(vector) for vector in answers[3].vectors] == [(2, ord("g"))]
    assert answers[4].num_tokens == 1


def test_what_is_refused_costs_nobody_else_anything(bench: Bench) -> None:
    bench.embed(1, "ok", "much too long")
    refused = bench.next_event()
    assert isinstance(refused, Failed)
    assert refused.error.param == "input[1]"
    bench.send(Ask(2, Embed([TokenPrompt([300])], "input")))
    assert isinstance(bench.next_event(), Failed)
    bench.send(Submit(3, GenerateRequest(TextPrompt("Once"))))
    assert isinstance(bench.next_event(), Failed)
    bench.embed(4, "ok")
    bench.encoder.gate.release()
    assert bench.next_event().request_id == 4


def test_a_computation_that_fails_ends_its_requests_alone(bench: Bench) -> None:
    bench.encoder.fails = True
    bench.embed(1, "a")
    bench.encoder.gate.release()
    failed = bench.next_event()
    assert isinstance(failed, Failed)
    assert failed.error.code == "decode_failed"
    bench.encoder.fails = False
    bench.embed(2, "b")
    bench.encoder.gate.release()
    assert bench.next_event().request_id == 2


def test_what_nobody_waits_for_is_not_computed(bench: Bench) -> None:
    bench.embed(1, "a")
    bench.encoder.begun.get(timeout=WAIT_S)
    bench.embed(2, "bb")
    bench.send(Cancel(2))
    bench.embed(3, "c")
    bench.encoder.gate.release(2)
    assert [bench.next_event().request_id for _ in range(2)] == [1, 3]
    assert bench.encoder.begun.get(timeout=WAIT_S) == [[ord("c")]]

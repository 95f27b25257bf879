"""A model whose replicas are elsewhere: what becomes of a request whose replica is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence

import msgspec
import pytest

from appliance.errors import ModelNotReady, PromptTooLong, WorkerLost
from appliance.fleet.routing import Policy
from appliance.fleet.serving.book import Book
from appliance.fleet.serving.remote_model import FleetPatience, RemoteModel, ReplicaLost
from appliance.fleet.serving.wire import (
    BEAT,
    AtDoor,
    Events,
    Refused,
    ReplicaState,
    decode_request,
    encode,
)
from appliance.protocol.events import (
    AskResult,
    Delta,
    Event,
    Finished,
    FinishReason,
    Message,
    Started,
    Usage,
)
from appliance.protocol.health import WorkerState
from appliance.protocol.questions import DescribeText
from appliance.protocol.requests import GenerateRequest, TextPrompt
from appliance.worker.frames import Submit

REQUEST = GenerateRequest(prompt=TextPrompt("x" * 600))
STARTED = Started(0, num_prompt_tokens=150)
HELLO = Delta(request_id=0, text="hello", num_tokens=1)
USAGE = Usage(num_prompt_tokens=150, num_cached_tokens=0, num_completion_tokens=1)
ENDED = Finished(request_id=0, reason=FinishReason.STOP, usage=USAGE)
LOST = ReplicaLost("gone")
Say = Sequence[Message | bytes | Exception | None]  # None: it is silent from then on


class Replicas:
    """Implements `ReplicaCalls`: each says what it was told to."""

    def __init__(self, book: Book, *sayings: Say) -> None:
        self._book = book
        self._sayings = list(sayings)
        self.asked: list[str] = []  # which of them, request by request
        self.num_closed = 0

    async def answer(
        self, key: str, payload: bytes, at_door: AtDoor
    ) -> AsyncGenerator[bytes, None]:
        assert isinstance(decode_request(payload), Submit) or b"DescribeText" in payload
        self.asked.append(self._book.ranked(key, ["a", "b", "c"])[0])
        try:
            for each in self._sayings.pop(0):
                if each is None:
                    await asyncio.Event().wait()
                elif isinstance(each, Exception):
                    raise each
                else:
                    yield each if isinstance(each, bytes) else encode(Events([each]))
        finally:
            self.num_closed += 1


def model(*sayings: Say, silence_s: float = 60.0) -> tuple[RemoteModel, Replicas]:
    book = Book(Policy.LEAST_TOKENS)
    book.replicas_are(dict.fromkeys("abc", ReplicaState(node="n", state=WorkerState.READY)))
    replicas = Replicas(book, *sayings)
    return RemoteModel(replicas, book, FleetPatience(silence_s=silence_s, look_s=0.0)), replicas


async def events_of(client: RemoteModel) -> list[Event]:
    return [event async for event in client.generate(REQUEST)]


async def test_an_answer_comes_as_it_was_sent() -> None:
    client, replicas = model([BEAT, STARTED, BEAT, HELLO, ENDED])
    assert await events_of(client) == [STARTED, HELLO, ENDED]
    assert replicas.num_closed == 1


@pytest.mark.parametrize("before", [[], [BEAT], [BEAT, STARTED]])
async def test_what_had_no_token_yet_is_computed_elsewhere_unseen(before: Say) -> None:
    client, replicas = model([*before, LOST], [STARTED, HELLO, ENDED])
    assert await events_of(client) == [STARTED, HELLO, ENDED]
    assert replicas.asked == ["a", "b"]


async def test_what_had_a_token_ends_with_the_error() -> None:
    client, replicas = model([STARTED, HELLO, LOST], [STARTED, HELLO, ENDED])
    seen: list[Event] = []

    async def read() -> None:
        async for event in client.generate(REQUEST):
            seen.append(event)

    with pytest.raises(WorkerLost, match="gone"):
        await read()
    assert seen == [STARTED, HELLO]
    assert replicas.asked == ["a"]


async def test_an_answer_in_one_piece_is_begun_anew_whatever_it_had() -> None:
    client, replicas = model([STARTED, HELLO, LOST], [STARTED, HELLO, ENDED])
    request = msgspec.structs.replace(REQUEST, is_whole=True)
    assert [event async for event in client.generate(request)] == [STARTED, HELLO, ENDED]
    assert replicas.asked == ["a", "b"]


async def test_a_request_ends_three_replicas_at_most() -> None:
    client, replicas = model([LOST], [STARTED, LOST], [LOST], [STARTED, ENDED])
    with pytest.raises(WorkerLost):
        await events_of(client)
    assert replicas.asked == ["a", "b", "c"]


async def test_an_answer_that_stops_in_the_middle_was_lost() -> None:
    client, replicas = model([STARTED], [STARTED, HELLO, ENDED])
    assert await events_of(client) == [STARTED, HELLO, ENDED]
    assert replicas.asked == ["a", "b"]


async def test_a_replica_that_is_silent_is_given_up() -> None:
    client, replicas = model([STARTED, None], [STARTED, HELLO, ENDED], silence_s=0.0)
    assert await events_of(client) == [STARTED, HELLO, ENDED]
    assert replicas.num_closed == 2


async def test_what_a_replica_refuses_is_refused_once() -> None:
    error = PromptTooLong.of(9000, 2047)
    client, replicas = model([encode(Refused(error.record()))])
    with pytest.raises(PromptTooLong, match="9000 tokens"):
        await events_of(client)
    assert replicas.asked == ["a"]


async def test_a_worker_that_is_lost_there_is_a_replica_that_is_lost() -> None:
    lost = encode(Refused(WorkerLost("it died").record()))
    client, replicas = model([STARTED, lost], [STARTED, HELLO, ENDED])
    assert await events_of(client) == [STARTED, HELLO, ENDED]
    assert replicas.asked == ["a", "b"]


async def test_where_there_is_no_replica_that_is_said() -> None:
    book = Book(Policy.PREFIX)

    class Nowhere:
        async def answer(
            self, key: str, payload: bytes, at_door: AtDoor
        ) -> AsyncGenerator[bytes, None]:
            await asyncio.Event().wait()
            yield b""

    client = RemoteModel(Nowhere(), book, FleetPatience(ready_s=0.0, look_s=0.0))
    with pytest.raises(ModelNotReady, match="No replica of the model"):
        await events_of(client)


async def test_whoever_leaves_early_ends_the_request_there() -> None:
    client, replicas = model([STARTED, HELLO, None])
    events = client.generate(REQUEST)
    assert [await anext(events), await anext(events)] == [STARTED, HELLO]
    await events.aclose()
    assert replicas.num_closed == 1


async def test_a_question_is_asked_again_too() -> None:
    result = AskResult(0, text="a template")
    client, replicas = model([LOST], [result])
    assert await client.ask(DescribeText()) == result
    assert replicas.asked == ["a", "b"]


async def test_it_is_told_when_everything_was_computed() -> None:
    told: list[str] = []
    on_computed: Callable[[], None] = lambda: told.append("computed")  # noqa: E731
    client, _ = model([STARTED, HELLO, ENDED])
    assert len([event async for event in client.generate(REQUEST, on_computed)]) == 3
    assert told == ["computed"]

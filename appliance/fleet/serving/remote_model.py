"""A model whose replicas are elsewhere, as one `Client`.

Knows no Ray: `ReplicaCalls` carries requests to replicas. A request whose replica is lost before
anything of its answer was passed on is given to another one, unseen by whoever asked; of an
answer that is sent in one piece nothing is, before its end.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from appliance.errors import ModelNotReady, StreamGone, WorkerLost, from_record
from appliance.fleet.serving.beats import next_of
from appliance.fleet.serving.book import Book, Entry
from appliance.fleet.serving.prompts import prompt_prints
from appliance.fleet.serving.states import health_of, info_of
from appliance.fleet.serving.wire import BEAT, AtDoor, Refused, Sent, decode_answer
from appliance.gateway.accounts.cost import cost_of
from appliance.protocol.events import AskResult, EmbedResult, Event, Finished, Message, Started
from appliance.protocol.health import WorkerHealth
from appliance.protocol.model_info import ModelInfo
from appliance.protocol.questions import Question
from appliance.protocol.relief import Pace, Relief
from appliance.protocol.requests import EmbedRequest, GenerateRequest, RerankRequest
from appliance.worker.client import OnComputed, nothing_to_tell
from appliance.worker.frames import AskQuestion, Embed, Submit, encode

_log = logging.getLogger(__name__)
Result = TypeVar("Result", AskResult, EmbedResult)
_ATTEMPTS = 3  # a request that ends replicas ends no more
_LAST = (Finished, AskResult, EmbedResult)


class ReplicaLost(WorkerLost):
    """The machine, the process, its worker or the way to it is gone."""


class ReplicaCalls(Protocol):
    """The way to a model's replicas."""

    def answer(self, key: str, payload: bytes, at_door: AtDoor) -> AsyncGenerator[bytes, None]:
        """What a replica sends for the request `payload`, which the model's `Book` knows by
        `key`. Closing it early cancels the request. `at_door` is told to the replica besides.

        Raises `ReplicaLost`.
        """


@dataclass(frozen=True, kw_only=True)
class FleetPatience:
    """In seconds."""

    silence_s: float = 10.0  # of a replica, which says once a second that it lives
    ready_s: float = 60.0  # for a replica to be there at all
    look_s: float = 0.5  # between two looks at both


class RemoteModel:
    """Implements `appliance.worker.client.Client`."""

    def __init__(self, calls: ReplicaCalls, book: Book, patience: FleetPatience) -> None:
        # tokens that wait for this model at the door, which makes a replica or two worth it
        self.num_waiting_tokens: Callable[[], int] = lambda: 0
        self._calls = calls
        self._book = book
        self._patience = patience

    @property
    def info(self) -> ModelInfo | None:
        return info_of([*self._book.states.values()])

    def health(self) -> WorkerHealth:
        return health_of([*self._book.states.values()])

    def relieve(self, relief: Relief | Pace) -> None:
        """Each replica looks after its own machine."""

    def forget(self, resume_id: str) -> None:
        """Nothing is kept here for whoever may come back."""

    def resume(self, resume_id: str) -> AsyncGenerator[Event, None]:
        """Raises `StreamGone`: nothing is left here to be taken up."""
        del resume_id
        raise StreamGone.unknown()

    async def ask(self, question: Question) -> AskResult:
        return await self._only(AskQuestion(0, question), Entry((), 0, 0), AskResult)

    async def embed(self, request: EmbedRequest | RerankRequest) -> EmbedResult:
        entry = Entry((), cost_of(request).prompt, 0)
        return await self._only(Embed(0, request), entry, EmbedResult)

    async def generate(
        self, request: GenerateRequest, on_computed: OnComputed = nothing_to_tell
    ) -> AsyncGenerator[Event, None]:
        cost = cost_of(request)
        entry = Entry(prompt_prints(request.prompt), cost.prompt, cost.answer)
        async with aclosing(self._tried(Submit(0, request), entry)) as messages:
            async for message in messages:
                assert not isinstance(message, AskResult | EmbedResult), message
                yield message
        on_computed()

    async def _only(self, sent: Sent, entry: Entry, expected: type[Result]) -> Result:
        async with aclosing(self._tried(sent, entry)) as messages:
            result = await anext(messages)
        assert isinstance(result, expected), result
        return result

    async def _tried(self, sent: Sent, entry: Entry) -> AsyncGenerator[Message, None]:
        """The messages of an attempt; of one more, where a replica was lost before it had
        said anything but `Started`, which the next one repeats.
        """
        payload = encode(sent)
        is_whole = isinstance(sent, Submit) and sent.request.is_whole
        is_started = has_said_something = False
        lost: list[str] = []
        while True:
            held: list[Message] = []  # of an answer that nobody reads before its end
            key, own = uuid.uuid4().hex, replace(entry, excluded=tuple(lost))
            self._book.expect(key, own)
            try:
                async with aclosing(self._attempt(key, payload)) as messages:
                    async for message in messages:
                        is_repeated = is_started and isinstance(message, Started)
                        is_started = is_started or isinstance(message, Started)
                        if not isinstance(message, Started):
                            self._book.began(key)
                            if is_whole:
                                held.append(message)
                                continue
                            has_said_something = True
                        if not is_repeated:
                            yield message
                for message in held:
                    yield message
                return
            except ReplicaLost as error:
                lost.append(own.replica or "")
                if has_said_something or len(lost) == _ATTEMPTS:
                    raise
                _log.warning("a request that had no answer goes elsewhere: %s", error.message)
            finally:
                self._book.ended(key)

    @property
    def _at_door(self) -> AtDoor:
        return AtDoor(self._book.door, self.num_waiting_tokens())

    async def _attempt(self, key: str, payload: bytes) -> AsyncGenerator[Message, None]:
        has_ended = False
        async with (
            aclosing(self._calls.answer(key, payload, self._at_door)) as answers,
            aclosing(self._heard(key, answers)) as heard,
        ):
            async for data in heard:
                if data == BEAT:
                    continue
                answer = decode_answer(data)
                if isinstance(answer, Refused):
                    error = from_record(answer.error)
                    if isinstance(error, WorkerLost):  # the replica's, which starts another one
                        raise ReplicaLost(error.message)
                    raise error
                for message in answer.events:
                    has_ended = isinstance(message, _LAST)
                    yield message
        if not has_ended:
            raise ReplicaLost("The replica stopped in the middle of an answer.")

    async def _heard(
        self, key: str, answers: AsyncGenerator[bytes, None]
    ) -> AsyncGenerator[bytes, None]:
        """Raises `ReplicaLost` where nothing comes from the replica that was chosen, and
        `ModelNotReady` where none is there to be chosen.
        """
        clock = asyncio.get_running_loop().time
        while True:
            reading, began_s = asyncio.ensure_future(next_of(answers)), clock()
            try:
                while not reading.done():
                    await asyncio.wait((reading,), timeout=self._patience.look_s)
                    if not reading.done():
                        self._check_patience(key, clock() - began_s)
            finally:
                if not reading.done():
                    reading.cancel()
                    await asyncio.gather(reading, return_exceptions=True)
            if (data := reading.result()) is None:
                return
            yield data

    def _check_patience(self, key: str, silent_s: float) -> None:
        replica, since_choice_s = self._book.waiting_on(key)
        if replica is None and silent_s > self._patience.ready_s:
            raise ModelNotReady(
                f"No replica of the model has been there for {silent_s:.0f} s. The fleet starts "
                "one as soon as a machine has room for it; try again later."
            )
        if replica is not None and min(silent_s, since_choice_s) > self._patience.silence_s:
            raise ReplicaLost(
                f"The replica that answered was not heard of for {self._patience.silence_s:g} s."
            )

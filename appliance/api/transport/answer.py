"""From a request's events to an HTTP answer, in one piece or as a stream. Knows no wire format.

Both kinds watch for the client's leaving all the while, so that nobody computes for a
closed connection: also before the first event, and also when nothing is being written,
which is when a server by itself would not notice. A client that stays but takes nothing
of a stream is given up after the application's `client_timeout_s`.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from appliance.api.errors import ErrorBody, error_body, internal_error_body
from appliance.api.transport import sse
from appliance.errors import ApplianceError
from appliance.gateway.choices import ChoiceEvent
from appliance.protocol.events import Delta, Event, Finished, SampledToken, ToolCallPart

_log = logging.getLogger(__name__)

# entering begins the request, leaving cancels it
Events = AbstractAsyncContextManager[AsyncIterator[ChoiceEvent]]


@dataclass
class Call:
    """A call of a function, with its arguments as JSON, in so far as the model wrote that."""

    id: str
    name: str
    arguments: str = ""


@dataclass(frozen=True, kw_only=True)
class WholeChoice:
    """One finished answer; `tokens` is None where no log-probabilities are asked for."""

    finished: Finished
    text: str
    tokens: list[SampledToken] | None
    reasoning: str = ""
    tool_calls: list[Call] = field(default_factory=list)


class AnswerFormat(Protocol):
    """A wire format: pure functions from events to bytes. Answers are counted from 0."""

    def chunk(self, index: int, event: Event) -> bytes:
        """What a stream says of one event of an answer; empty when there is nothing to say."""

    def end(self, finished: Sequence[Finished]) -> bytes:
        """What a stream says when every answer has ended; here are their ends, by index."""

    def broken(self, body: ErrorBody) -> bytes:
        """What a stream says when something failed, after which it ends."""

    def whole(self, choices: Sequence[WholeChoice]) -> bytes:
        """Everything in one piece."""


class _Answer(Response, ABC):
    # Like Starlette's own streaming responses it leaves out Response.__init__, which
    # wants a body at once.
    def __init__(
        self, events: Events, media_type: str, headers: dict[str, str] | None = None
    ) -> None:
        self.status_code = 200
        self.media_type = media_type
        self.background = None
        self.init_headers(headers)
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        timeout_s: float = scope["app"].state.client_timeout_s
        await unless_disconnected(receive, self._write(impatient(send, timeout_s)))

    @abstractmethod
    async def _write(self, send: Send) -> None: ...


class StreamedAnswer(_Answer):
    """Writes each event as it comes; nothing is written for those that `answer_format`
    has no bytes for.

    The status is sent with the first event, so a refusal before it is raised and gets
    its own status. What fails later becomes an error event, after which the stream ends
    without `[DONE]`: OpenAI's clients raise `APIError` on it.
    """

    def __init__(self, events: Events, answer_format: AnswerFormat) -> None:
        # Proxies such as nginx would otherwise collect the events.
        super().__init__(
            events, sse.MEDIA_TYPE, {"cache-control": "no-cache", "x-accel-buffering": "no"}
        )
        self._format = answer_format
        self._finished: dict[int, Finished] = {}

    async def _write(self, send: Send) -> None:
        async with self._events as events:
            first = await anext(events)
            await send(
                {
                    "type": "http.response.start",
                    "status": self.status_code,
                    "headers": self.raw_headers,
                }
            )
            try:
                await self._write_chunk(send, first)
                async for event in events:
                    await self._write_chunk(send, event)
                await send(
                    _part(
                        self._format.end(
                            [self._finished[index] for index in sorted(self._finished)]
                        )
                    )
                )
            except ApplianceError as error:
                _log.warning("A stream broke: %s: %s", error.code, error.message)
                await send(_part(self._format.broken(error_body(error))))
            except Exception:  # noqa: BLE001  # the status is out: a stream can only end with an error event
                _log.exception("A stream broke")
                await send(_part(self._format.broken(internal_error_body())))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _write_chunk(self, send: Send, happened: ChoiceEvent) -> None:
        if isinstance(happened.event, Finished):
            self._finished[happened.index] = happened.event
        if chunk := self._format.chunk(happened.index, happened.event):
            await send(_part(chunk))


class WholeAnswer(_Answer):
    """Collects the answers and writes them in one piece."""

    def __init__(self, events: Events, answer_format: AnswerFormat) -> None:
        super().__init__(events, "application/json")
        self._format = answer_format

    async def _write(self, send: Send) -> None:
        body = self._format.whole(await self._collect())
        headers = [*self.raw_headers, (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    async def _collect(self) -> list[WholeChoice]:
        collected: dict[int, _Collected] = defaultdict(_Collected)
        async with self._events as events:
            async for happened in events:
                collected[happened.index].add(happened.event)
        return [collected[index].whole() for index in sorted(collected)]


@dataclass(kw_only=True)
class _Collected:
    """One answer as it grows."""

    texts: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    tool_calls: list[Call] = field(default_factory=list)
    tokens: list[SampledToken] | None = None
    finished: Finished | None = None

    def add(self, event: Event) -> None:
        if isinstance(event, Finished):
            self.finished = event
        elif isinstance(event, Delta):
            self.texts.append(event.text)
            self.reasoning.append(event.reasoning)
            if event.tool_call is not None:
                self._add_call(event.tool_call)
            if event.tokens is not None:
                self.tokens = [] if self.tokens is None else self.tokens
                self.tokens += event.tokens

    def _add_call(self, call: ToolCallPart) -> None:
        if call.name:
            self.tool_calls.append(Call(call.id, call.name))
        self.tool_calls[call.index].arguments += call.arguments

    def whole(self) -> WholeChoice:
        assert self.finished is not None, "a Client ends every answer with Finished, or raises"
        return WholeChoice(
            finished=self.finished,
            text="".join(self.texts),
            tokens=self.tokens,
            reasoning="".join(self.reasoning),
            tool_calls=self.tool_calls,
        )


def _part(data: bytes) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": True}


def impatient(send: Send, timeout_s: float) -> Send:
    """A `send` that cancels its task when the client takes nothing for `timeout_s`: the
    server's buffers are full then.

    The answer stays unfinished, so that the server closes the connection.
    """

    async def watched(message: Message) -> None:
        task = asyncio.current_task()
        assert task is not None
        timer = asyncio.get_running_loop().call_later(timeout_s, _give_up, task, timeout_s)
        try:
            await send(message)
        finally:
            timer.cancel()

    return watched


def _give_up(task: asyncio.Task[Any], timeout_s: float) -> None:
    _log.warning(
        "A client took nothing of its answer for %g s: the request is given up.", timeout_s
    )
    task.cancel()


async def unless_disconnected(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Runs `work` to its end, or until the client has gone: then cancels it and waits
    for its clean-up.
    """
    working = asyncio.create_task(work)
    watching = asyncio.create_task(_disconnected(receive))
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
    finally:
        working.cancel()
        watching.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)
    if not working.cancelled():
        working.result()  # raises what it raised


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

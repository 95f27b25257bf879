"""Who is notified of each request, from its start to its end, and with what outcome.

Knows no HTTP; counts nothing itself.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from appliance.errors import ApplianceError
from appliance.gateway.accounts.caller import Caller
from appliance.protocol.events import AskResult, EmbedResult, Event, Finished, Message
from appliance.protocol.questions import Question
from appliance.protocol.requests import EmbedRequest, GenerateRequest, RerankRequest

CANCELLED = "cancelled"  # the outcome of a request whose client went away
EMBEDDED = "embedded"  # the outcome of a request for vectors or scores
COMPLETED = "completed"  # the outcome of a question

ObservableRequest = GenerateRequest | EmbedRequest | RerankRequest | Question


class ObservedRequest(Protocol):
    """One request, as one observer follows it. Neither method may block or raise."""

    def event(self, message: Message, /) -> None:
        """Each event of a generation as its client takes it, or the one result of any
        other request.
        """

    def ended(self, outcome: str, /) -> None:
        """Exactly once: with a finish reason, `EMBEDDED`, `COMPLETED`, `CANCELLED`
        or the code of an error.
        """


class RequestObserver(Protocol):
    """Whoever counts, measures or records requests."""

    def started(
        self, caller: Caller, model_id: str, request: ObservableRequest, /
    ) -> ObservedRequest:
        """A request has arrived; it may still be refused. Must not block or raise."""


class Observers:
    """Several observers as one."""

    def __init__(self, observers: Sequence[RequestObserver]) -> None:
        self._observers = tuple(observers)

    def started(self, caller: Caller, model_id: str, request: ObservableRequest) -> ObservedRequest:
        observed = [each.started(caller, model_id, request) for each in self._observers]
        return observed[0] if len(observed) == 1 else ObservedByAll(observed)


class ObservedByAll:
    """One request, as several observers follow it."""

    def __init__(self, observed: Sequence[ObservedRequest]) -> None:
        self._observed = observed

    def event(self, message: Message) -> None:
        for each in self._observed:
            each.event(message)

    def ended(self, outcome: str) -> None:
        for each in self._observed:
            each.ended(outcome)


async def observed_events(
    start: Callable[[], ObservedRequest], events: AsyncGenerator[Event, None]
) -> AsyncGenerator[Event, None]:
    """The same events; `start` is called when the first is asked for. Closing this
    early closes `events`, and the request has been cancelled.
    """
    request = start()
    try:
        with _outcome_reported(request) as outcome:
            async for event in events:
                if isinstance(event, Finished):
                    outcome.value = event.reason.value
                request.event(event)
                yield event
    finally:
        await events.aclose()


@contextmanager
def observed_result(
    request: ObservedRequest,
) -> Iterator[Callable[[EmbedResult | AskResult], None]]:
    """Around a request that has one result; takes it.

    Leaving without one by cancellation means that the request has been cancelled.
    """
    with _outcome_reported(request) as outcome:

        def completed(result: EmbedResult | AskResult) -> None:
            outcome.value = EMBEDDED if isinstance(result, EmbedResult) else COMPLETED
            request.event(result)

        yield completed


class _Outcome:
    """What `ended` will be called with, as far as is known."""

    value = CANCELLED


@contextmanager
def _outcome_reported(request: ObservedRequest) -> Iterator[_Outcome]:
    outcome = _Outcome()
    try:
        yield outcome
    except ApplianceError as error:
        outcome.value = error.code
        raise
    except Exception:
        outcome.value = ApplianceError.code
        raise
    finally:
        request.ended(outcome.value)

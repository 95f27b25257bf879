"""One place that every request passes: counts it, and refuses it when closing.

Knows no HTTP and no wire format.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec

from appliance.errors import ApplianceError, ModelNotFound, QueueFull, ShuttingDown
from appliance.gateway.accounts.administration import KeyAdministration
from appliance.gateway.accounts.admission import Admission
from appliance.gateway.accounts.caller import Caller
from appliance.gateway.accounts.quotas import CountedRequest, Quotas
from appliance.gateway.answer_cache.caches import NO_CACHES, Caches
from appliance.gateway.batches.batches import Batches
from appliance.gateway.batches.line_format import LineFormat
from appliance.gateway.batches.runner import Surroundings
from appliance.gateway.choice_stream import Answer, ChoiceStream
from appliance.gateway.choices import choice_requests
from appliance.gateway.foreground import Foreground
from appliance.gateway.health import server_health
from appliance.gateway.library.library import Library, NoLibrary
from appliance.gateway.observers import (
    ObservedByAll,
    ObservedRequest,
    Observers,
    RequestObserver,
    observed_events,
    observed_result,
)
from appliance.gateway.queue.queues import QueueRules, Queues
from appliance.gateway.router import Models, Router, ServedModel
from appliance.gateway.stored_responses.store import ResponseStore
from appliance.gateway.telemetry.gauges import ModelState
from appliance.gateway.telemetry.metrics import Metrics
from appliance.gateway.tiers.answering import RoutedAnswering
from appliance.gateway.tiers.choosing import Choice
from appliance.gateway.usage.log import UsageLog, with_energy
from appliance.protocol.events import AskResult, EmbedResult, Event
from appliance.protocol.questions import Question
from appliance.protocol.requests import EmbedRequest, GenerateRequest, RerankRequest
from appliance.time_limit import within
from appliance.worker.client import Client, nothing_to_tell

# in flight in this process, each holding a socket and a queue; far above what the slots
# can use
MAX_REQUESTS = 512


class Gateway:
    """Holds the router, the keys and what each has used, the requests in flight, and who
    observes them: `metrics`, and `observers` besides.
    """

    def __init__(
        self,
        router: Router,
        admission: Admission,
        *,
        quotas: Quotas | None = None,
        keys: KeyAdministration | None = None,
        observers: Sequence[RequestObserver] = (),
        max_requests: int = MAX_REQUESTS,
        library: Library | None = None,
        responses: ResponseStore | None = None,
        batches: Batches | None = None,
        queue_rules: QueueRules | None = None,
        usage: UsageLog | None = None,
        caches: Caches = NO_CACHES,
    ) -> None:
        """`usage`: None where nobody is to know later what was used. `keys`: None where
        none are made here.
        """
        self.router = router
        self.admission = admission
        self.quotas = quotas or Quotas()
        self.keys = keys
        self.library = library or NoLibrary()
        self.responses = responses  # None: none are stored
        self.batches = batches
        self.foreground = Foreground()
        self.metrics = Metrics()
        self.metrics.watch(self._model_states)
        self.metrics.watch_batches(lambda: 0 if batches is None else batches.num_waiting_lines)
        self.caches = caches
        self.metrics.watch_caches(caches.sizes)
        self.usage = usage
        if usage is not None:
            self.metrics.requests.add_listener(usage)
        self._observers = Observers((self.metrics.requests, *observers))
        self._queues = Queues(queue_rules or QueueRules())
        self._max_requests = max_requests
        self._num_requests = 0
        self._draining = False
        self._ends_soon = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def num_requests(self) -> int:
        """Requests in flight."""
        return self._num_requests

    @asynccontextmanager
    async def generate(
        self,
        caller: Caller,
        model: ServedModel,
        request: GenerateRequest,
        on_waiting: Callable[[], None] = nothing_to_tell,
    ) -> AsyncIterator[AsyncIterator[Event]]:
        """The request's events; leaving the context early cancels it. `on_waiting` is
        called when it has to wait for its turn.

        Raises `ShuttingDown` while draining, `QueueFull` over the bound on requests in
        flight, `RateLimited` over the caller's limits, and `Unauthorized` or
        `ModelNotFound` where it may not ask this any more; iterating raises what
        `Queues.generate` raises.
        """
        request = model.adapters.resolved(request, model.adapter)
        with self._admitted(caller, model, request) as start:
            computed = self._queues.generate(caller, model.client, request, on_waiting)
            events = self.caches.generate(caller, model, request, computed)
            async with aclosing(observed_events(start, events)) as observed:
                yield with_energy(self.usage, observed)

    @asynccontextmanager
    async def resume(
        self, caller: Caller, model: ServedModel, request: GenerateRequest
    ) -> AsyncIterator[AsyncIterator[Event]]:
        """Goes on with one that was left early and has a `resume_id`: a request in
        flight like another, but no new one to the caller's limits.

        Raises as `generate` does, and iterating raises what `Client.resume` raises.
        """
        with self._admitted(caller, model, request, is_resumed=True) as start:
            replayed = self.caches.resume(request.resume_id)
            events = replayed or model.client.resume(request.resume_id)
            async with aclosing(observed_events(start, events)) as observed:
                yield with_energy(self.usage, observed)

    async def ask(self, caller: Caller, model: ServedModel, question: Question) -> AskResult:
        """Counts for no limit of the caller's. Raises `ShuttingDown` while draining,
        `QueueFull` over the bound, `Unauthorized` or `ModelNotFound` where the caller may
        not ask this any more, and what `Client.ask` raises.
        """
        model = model.itself
        with observed_result(self._observers.started(caller, model.id, question)) as completed:
            self._check_open()
            self._permitted(caller, model)
            with self._in_flight():
                result = await model.client.ask(question)
            completed(result)
        return result

    async def embed(
        self, caller: Caller, model: ServedModel, request: EmbedRequest | RerankRequest
    ) -> EmbedResult:
        """Cancelling this cancels the request.

        Raises as `generate` does, and what `Queues.embed` raises.
        """
        model = model.itself
        with (
            self._admitted(caller, model, request) as start,
            observed_result(start()) as completed,
        ):
            result = await self.caches.embed(
                caller,
                model,
                request,
                lambda asked: self._queues.embed(caller, model.client, asked),
            )
            completed(result)
        return result

    @contextmanager
    def _admitted(
        self,
        caller: Caller,
        model: ServedModel,
        request: CountedRequest,
        *,
        is_resumed: bool = False,
    ) -> Iterator[Callable[[], ObservedRequest]]:
        """Within it the request is in flight. Gives what is to be called when it begins:
        one that never does takes nothing of its caller's limits.
        """

        def start() -> ObservedRequest:
            return self._observers.started(caller, model.id, request)

        try:
            self._check_open()
            present = self._permitted(caller, model)
            reservation = self.quotas.reserve(present, request, is_resumed=is_resumed)
        except ApplianceError as error:
            start().ended(error.code)
            raise
        with self._in_flight(), self.foreground.counted(caller):
            if reservation is None:
                yield start
            else:
                with reservation:
                    yield lambda: ObservedByAll((start(), reservation.begun()))

    def _permitted(self, caller: Caller, model: ServedModel) -> Caller:
        """The caller on the terms of now. Raises `Unauthorized`, and `ModelNotFound` where
        it may not use this model.
        """
        present = self.admission.present(caller)
        allowed = present.limits.models
        if allowed is not None and not model.is_named(allowed):
            raise ModelNotFound(f"This API key may not use '{model.id}'.", param="model")
        return present

    def models_of(self, caller: Caller) -> Models:
        """Those that this caller may use; others are not there for it. Raises
        `Unauthorized` where it would not be let in any more.
        """
        return self.router.models_of(self.admission.present(caller))

    def library_of(self, caller: Caller) -> Library:
        """What this caller may do with the models as files: who may not use all of them
        changes none.
        """
        if caller.limits.models is None:
            return self.library
        return NoLibrary("This API key may use some models only, and change none.")

    async def stay(self, model: ServedModel, keep_alive_s: float | None) -> None:
        """Loads a model without asking it anything, or with 0 seconds unloads it.

        Raises as `ask` does, and what `ManagedModel.stay` raises.
        """
        self._check_open()
        model = model.itself
        if model.stay is not None:
            with self._in_flight():
                await model.stay(keep_alive_s)

    @contextmanager
    def _in_flight(self) -> Iterator[None]:
        self._num_requests += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._num_requests -= 1
            if self._num_requests == 0:
                self._idle.set()

    def _check_open(self) -> None:
        if self._draining:
            raise ShuttingDown("The server is shutting down and accepts no new requests.")
        if self._num_requests >= self._max_requests:
            raise QueueFull(
                f"{self._num_requests} requests are in flight, which is the limit of this server."
            )

    def _model_states(self) -> Iterator[ModelState]:
        return (
            ModelState(
                model.id,
                model.client.info,
                model.client.health(),
                self._queues.state(model.client),
            )
            for model in self.router.distinct
        )

    def generate_choices(
        self,
        caller: Caller,
        model: ServedModel,
        prompts: Sequence[GenerateRequest],
        num_choices: int = 1,
        *,
        is_whole: bool = False,
    ) -> ChoiceStream:
        """The events of `num_choices` answers to each prompt;
        each counts as a request in flight, while it is read. `is_whole`: nobody reads an
        answer before its end, so that of `auto` may be another model's than was asked first.

        One failing, or leaving the context early, cancels them all. Raises what
        `generate` raises, and `BadRequest` for more answers than the caller may ever ask for.
        """
        requests = choice_requests(prompts, num_choices)
        self.quotas.check_together(self.admission.present(caller), requests)
        if is_whole and model.replicas is not None:
            requests = [msgspec.structs.replace(each, is_whole=True) for each in requests]
        if model.tiers is None:
            return ChoiceStream(_Answering(self, caller, model), requests)
        routed = RoutedAnswering(
            Choice.of(model.tiers, requests),
            lambda chosen: _Answering(self, caller, chosen),
            is_whole=is_whole,
            min_logprob=model.tiers.rules.min_logprob,
            timeout_s=self._queues.timeout_s(caller),
        )
        return ChoiceStream(routed, requests)

    def num_waiting_tokens(self, client: Client) -> int:
        """Of the requests that wait for a turn at it, estimated, answers included."""
        return self._queues.state(client).num_waiting_tokens

    def answer_batches(self, line_format: LineFormat) -> None:
        """If there are batches, their lines are in this format."""
        if self.batches is not None:
            surroundings = Surroundings(foreground=self.foreground, num_at_once=self._most_slots)
            self.batches.be_answered(line_format, surroundings)

    def _most_slots(self) -> int:
        """Of a loaded model; 1 where none is."""
        infos = (model.client.info for model in self.router.distinct)
        return max((info.slots for info in infos if info is not None), default=1)

    async def close(self) -> None:
        """Returns when what is kept of requests is written."""
        await self.caches.close()
        if self.usage is not None:
            await self.usage.close()

    def announce_end(self) -> None:
        """From now on `health` says that it drains; requests are taken as before."""
        self._ends_soon = True

    def begin_drain(self) -> None:
        """From now on new requests are refused; those in flight go on."""
        self._draining = True

    async def drain(self, limit_s: float) -> bool:
        """Begins to drain and waits until nothing is in flight; False when `limit_s`
        passed first.
        """
        self.begin_drain()
        if self._idle.is_set():
            return True
        try:
            await within(limit_s, self._idle.wait())
        except asyncio.TimeoutError:
            return False
        return True

    def health(self) -> dict[str, Any]:
        """See `server_health`."""
        return server_health(
            self.router.models,
            is_draining=self._draining or self._ends_soon,
            num_requests=self._num_requests,
        )


@dataclass(frozen=True)
class _Answering:
    """Implements `appliance.gateway.choice_stream.Answering`."""

    gateway: Gateway
    caller: Caller
    model: ServedModel

    def begin(self, request: GenerateRequest, on_waiting: Callable[[], None]) -> Answer:
        return self.gateway.generate(self.caller, self.model, request, on_waiting)

    def resume(self, request: GenerateRequest) -> Answer:
        return self.gateway.resume(self.caller, self.model, request)

    def forget(self, request: GenerateRequest) -> None:
        self.gateway.caches.forget(request.resume_id)
        self.model.client.forget(request.resume_id)

"""A `Client` that plays a script, and the application around it.

Knows no model and no process.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator

import httpx
from fastapi import FastAPI

from appliance.api.app import create_app
from appliance.errors import StreamGone
from appliance.gateway.accounts.admission import Admission
from appliance.gateway.answer_cache.caches import NO_CACHES, Caches
from appliance.gateway.batches.batches import Batches
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.router import Router, ServedModel
from appliance.gateway.stored_responses.store import ResponseStore
from appliance.gateway.usage.log import UsageLog
from appliance.protocol.events import (
    AskResult,
    Delta,
    EmbedResult,
    Event,
    Finished,
    FinishReason,
    Started,
    Usage,
)
from appliance.protocol.health import WorkerHealth, WorkerState
from appliance.protocol.model_info import ModelInfo
from appliance.protocol.questions import Question
from appliance.protocol.requests import EmbedRequest, GenerateRequest, RerankRequest

CREATED = 1_700_000_000

INFO = ModelInfo(
    name="novels",
    quantization="Q8_0",
    num_params=6_000_000,
    num_vocab=4096,
    ctx=2048,
    train_ctx=2048,
    slots=4,
    kv_cells=8192,
    kv_type="f16",
    has_chat_template=True,
    tool_use="generic",
    system_info="none",
)

Step = Event | Exception | asyncio.Event

ANSWER: tuple[Event, ...] = (
    Started(1, 5),
    Delta(request_id=1, text="It was", num_tokens=2),
    Delta(request_id=1, text="", num_tokens=1),
    Delta(request_id=1, text=" a café…", num_tokens=2),
    Finished(
        request_id=1,
        reason=FinishReason.STOP,
        usage=Usage(num_prompt_tokens=5, num_cached_tokens=2, num_completion_tokens=5),
    ),
)

ANSWER_USAGE = {  # as OpenAI writes it
    "prompt_tokens": 5,
    "completion_tokens": 5,
    "total_tokens": 10,
    "prompt_tokens_details": {"cached_tokens": 2},
}


class ScriptedClient:
    """Plays its steps for every request: yields events, raises exceptions, waits for
    `asyncio.Event`s.
    """

    def __init__(
        self, *steps: Step, state: WorkerState = WorkerState.READY, last_error: str | None = None
    ) -> None:
        self.info: ModelInfo | None = INFO
        self.requests: list[GenerateRequest] = []
        self.questions: list[Question] = []
        self.embed_requests: list[EmbedRequest | RerankRequest] = []
        self.embedded: EmbedResult | Exception | asyncio.Event = EmbedResult(1, b"", 1, 0)
        self.answer: AskResult | Exception = AskResult(1)
        self.reached_wait = asyncio.Event()  # the script stands at an `asyncio.Event`
        self.closed = asyncio.Event()  # an iterator was closed, at its end or early
        self.forgotten: list[str] = []
        self._interrupted: dict[str, Iterator[Step]] = {}
        self.heartbeat_age_s: float | None = None
        self._steps = steps
        self._state = state
        self._last_error = last_error

    def health(self) -> WorkerHealth:
        return WorkerHealth(
            state=self._state,
            pid=4711,
            num_restarts=0,
            last_error=self._last_error,
            heartbeat=None,
            heartbeat_age_s=self.heartbeat_age_s,
        )

    async def ask(self, question: Question) -> AskResult:
        self.questions.append(question)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def embed(self, request: EmbedRequest | RerankRequest) -> EmbedResult:
        self.embed_requests.append(request)
        if isinstance(self.embedded, Exception):
            raise self.embedded
        if isinstance(self.embedded, EmbedResult):
            return self.embedded
        self.reached_wait.set()
        try:
            await self.embedded.wait()
        finally:
            self.closed.set()
        raise AssertionError("nobody opens this gate")

    async def generate(
        self, request: GenerateRequest, on_computed: object = None
    ) -> AsyncIterator[Event]:
        self.requests.append(request)
        async for event in self._play(request.resume_id, iter(self._steps)):
            yield event

    async def resume(self, resume_id: str) -> AsyncIterator[Event]:
        if resume_id not in self._interrupted:
            raise StreamGone.unknown()
        self.closed.clear()
        async for event in self._play(resume_id, self._interrupted.pop(resume_id)):
            yield event

    def forget(self, resume_id: str) -> None:
        self.forgotten.append(resume_id)
        self._interrupted.pop(resume_id, None)

    async def _play(self, resume_id: str, steps: Iterator[Step]) -> AsyncIterator[Event]:
        is_ended = False
        try:
            for step in steps:
                if isinstance(step, Exception):
                    is_ended = True
                    raise step
                if isinstance(step, asyncio.Event):
                    self.reached_wait.set()
                    await step.wait()
                else:
                    is_ended = isinstance(step, Finished)
                    yield step
        finally:
            if resume_id and not is_ended:
                self._interrupted[resume_id] = steps
            self.closed.set()


class ChoosingClient(ScriptedClient):
    """Plays another script for each request of one call; sets `one_ended` when the
    first of them is at its end.
    """

    def __init__(
        self,
        *scripts: tuple[Event | Exception | asyncio.Event, ...],
        one_ended: asyncio.Event | None = None,
    ) -> None:
        super().__init__()
        self._scripts = scripts
        self._one_ended = one_ended or asyncio.Event()
        self.num_closed = 0

    async def generate(
        self, request: GenerateRequest, on_computed: object = None
    ) -> AsyncIterator[Event]:
        one = ScriptedClient(*self._scripts[len(self.requests)])
        self.requests.append(request)
        try:
            async for event in one.generate(request):
                yield event
        finally:
            self.num_closed += 1
            self._one_ended.set()
            if self.num_closed == len(self._scripts):
                self.closed.set()


def gateway_around(
    client: ScriptedClient,
    keys: Collection[str] = (),
    responses: ResponseStore | None = None,
    batches: Batches | None = None,
    usage: UsageLog | None = None,
    caches: Caches = NO_CACHES,
) -> Gateway:
    return Gateway(
        Router([ServedModel(id="novels", client=client, created=CREATED, aliases=("org/novels",))]),
        Admission(keys),
        responses=responses,
        batches=batches,
        usage=usage,
        caches=caches,
    )


def http_to(app: FastAPI, **headers: str) -> httpx.AsyncClient:
    """A client that calls the application without a network."""
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8080", headers=headers
    )


def http_around(client: ScriptedClient) -> httpx.AsyncClient:
    return http_to(create_app(gateway_around(client)))

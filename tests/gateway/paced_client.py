"""A `Client` that answers at the test's pace, and a gateway around it.

Knows no process.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from appliance.gateway.accounts.admission import Admission
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.router import Router, ServedModel
from appliance.protocol.events import Delta, Event, Finished, FinishReason, Started, Usage
from appliance.protocol.health import Heartbeat, WorkerHealth, WorkerState
from appliance.protocol.model_info import ModelInfo
from appliance.protocol.requests import GenerateRequest, TextPrompt

REQUEST = GenerateRequest(prompt=TextPrompt("Once"))
ANSWER: list[Event] = [
    Started(1, 1),
    Delta(request_id=1, text=" upon", num_tokens=1),
    Finished(
        request_id=1,
        reason=FinishReason.STOP,
        usage=Usage(num_prompt_tokens=1, num_cached_tokens=0, num_completion_tokens=1),
    ),
]


class PacedClient:
    """Answers every request with ANSWER, one event for each `go_on.release()`."""

    def __init__(
        self, state: WorkerState = WorkerState.READY, last_error: str | None = None
    ) -> None:
        self.info: ModelInfo | None = None
        self.go_on = asyncio.Semaphore(0)
        self.num_open = 0
        self._health = WorkerHealth(
            state=state,
            pid=4711,
            num_restarts=2,
            last_error=last_error,
            heartbeat=Heartbeat(
                num_running=1, num_waiting=0, num_steps=7, num_used_cells=40, step_age_s=0.5
            ),
            heartbeat_age_s=0.25,
        )

    def health(self) -> WorkerHealth:
        return self._health

    async def generate(
        self, request: GenerateRequest, on_computed: object = None
    ) -> AsyncIterator[Event]:
        assert request == REQUEST
        self.num_open += 1
        try:
            for event in ANSWER:
                await self.go_on.acquire()
                yield event
        finally:
            self.num_open -= 1


def served(name: str, client: PacedClient, *aliases: str) -> ServedModel:
    return ServedModel(id=name, client=client, created=1_700_000_000, aliases=aliases)


def gateway_of(client: PacedClient, **options: int) -> tuple[Gateway, ServedModel]:
    model = served("novels", client)
    return Gateway(Router([model]), Admission(), **options), model

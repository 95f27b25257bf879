"""The parent's view of one worker: requests go in, events come out. Knows no HTTP and no llama.cpp."""

from __future__ import annotations

import enum
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from appliance.engine.relief import Relief
from appliance.worker.messages import (
    Answered,
    Embedded,
    EmbedRequest,
    Event,
    GenerateRequest,
    Heartbeat,
    ModelInfo,
    Question,
    RerankRequest,
)


class WorkerState(str, enum.Enum):
    UNLOADED = "unloaded"  # none runs, until somebody asks for the model
    LOADING = "loading"  # somebody has asked, and waits
    STARTING = "starting"  # first load in progress, for nobody yet
    READY = "ready"
    RESTARTING = "restarting"  # it died; a new one is awaited or loading
    FAILED = "failed"  # it cannot load the model; see `last_error`
    STOPPED = "stopped"


@dataclass(frozen=True)
class WorkerHealth:
    """What the parent knows without asking the worker anything."""

    state: WorkerState
    pid: int | None
    num_restarts: int
    last_error: str | None
    heartbeat: Heartbeat | None
    heartbeat_age_s: float | None
    tokens_per_s: float | None = None  # generated, over the last seconds


class Client(Protocol):
    """A model that answers, wherever it runs. The gateway and the API see nothing more of a worker than this."""

    @property
    def info(self) -> ModelInfo | None:
        """The loaded model, or None before the first load has finished."""

    def health(self) -> WorkerHealth: ...

    def relieve(self, relief: Relief) -> None:
        """Has a worker that is ready do without something from now on; a new one begins without any such bounds."""

    async def ask(self, question: Question) -> Answered:
        """What the model's vocabulary and template say, without computing anything and without waiting for what is.

        Raises an `ApplianceError` when that is refused (`TemplateFailed`, `BadRequest`) or lost (`WorkerLost`).
        """

    async def embed(self, request: EmbedRequest | RerankRequest) -> Embedded:
        """The vectors of all inputs, or the scores of all documents; cancelling this cancels the request.

        Raises an `ApplianceError` when it is refused (`PromptTooLong`, `QueueFull`, `BadRequest` by a model that makes
        none, ...) or lost (`WorkerLost`).
        """

    def generate(self, request: GenerateRequest) -> AsyncGenerator[Event, None]:
        """Yields one `Started`, then `Delta`s, then exactly one `Finished`.

        Raises an `ApplianceError` instead, at any point, when the request is refused (`PromptTooLong`, `QueueFull`,
        ...) or lost (`WorkerLost`). Closing the generator early (`aclose`) cancels the request within one engine step.
        """

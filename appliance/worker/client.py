"""The parent's view of one worker: requests go in, events come out.

Knows no HTTP and no llama.cpp.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Protocol

from appliance.protocol.events import AskResult, EmbedResult, Event
from appliance.protocol.health import WorkerHealth
from appliance.protocol.model_info import ModelInfo
from appliance.protocol.questions import Question
from appliance.protocol.relief import Pace, Relief
from appliance.protocol.requests import EmbedRequest, GenerateRequest, RerankRequest

OnComputed = Callable[[], None]


def nothing_to_tell() -> None:
    """Of a request whose end nobody waits for but its reader."""


class Client(Protocol):
    """A model that answers, wherever it runs.

    The gateway and the API see nothing more of a worker than this.
    """

    @property
    def info(self) -> ModelInfo | None:
        """The loaded model, or None before the first load has finished."""

    def health(self) -> WorkerHealth: ...

    def relieve(self, relief: Relief | Pace) -> None:
        """What a worker that is ready does without; a new one has all again."""

    async def ask(self, question: Question) -> AskResult:
        """A question to the model's vocabulary and template: nothing is computed, and
        it does not wait for what is. One to its slots waits for the step in progress.

        Raises an `ApplianceError` when that is refused (`TemplateFailed`, `BadRequest`)
        or lost (`WorkerLost`).
        """

    async def embed(self, request: EmbedRequest | RerankRequest) -> EmbedResult:
        """The vectors of all inputs, or the scores of all documents; cancelling this
        cancels the request.

        Raises an `ApplianceError` when it is refused (`PromptTooLong`, `QueueFull`,
        `BadRequest` by a model that makes none, ...) or lost (`WorkerLost`).
        """

    def generate(
        self, request: GenerateRequest, on_computed: OnComputed = nothing_to_tell
    ) -> AsyncGenerator[Event, None]:
        """Yields one `Started`, then `Delta`s, then exactly one `Finished`.

        Raises an `ApplianceError` instead, at any point, when the request is refused
        (`PromptTooLong`, `QueueFull`, ...) or lost (`WorkerLost`). Closing the
        generator early (`aclose`) cancels the request within one engine step, or
        suspends it where it has started and the request has a `resume_id`: then its
        slot is free as soon, and it waits for `resume` or `forget`. `on_computed` is called
        once the worker has no more to do for it, even where its last events are not read.
        """

    def resume(self, resume_id: str) -> AsyncGenerator[Event, None]:
        """Goes on with a suspended request: yields the events after the last one that
        `generate` has yielded, as that would have done.

        Raises `StreamGone` where there is none.
        """

    def forget(self, resume_id: str) -> None:
        """Cancels a suspended request; unknown ids are ignored."""

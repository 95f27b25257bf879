"""A model that makes vectors, as the loop drives it:
whole inputs of many requests in each step.

Knows no thread, no channel and no llama.cpp.

Between two steps messages are taken, so that who leaves costs a step at most.
"""

from __future__ import annotations

import numpy as np

from appliance.engine.embedding import EmbeddingQueue, Encoded, NotEncoded, Scoring, Vectors
from appliance.errors import ApplianceError, BadRequest, PromptTooLong
from appliance.protocol.events import EmbedResult, Failed, Message
from appliance.protocol.health import Heartbeat
from appliance.protocol.questions import AskSlot
from appliance.protocol.relief import Relief
from appliance.protocol.requests import EmbedRequest, RerankRequest
from appliance.worker.child.tokenizing.embedding_inputs import PreparedInputs


class Embedding:
    """Implements `appliance.worker.child.loop.Computing`.

    `scoring`: what the model makes of a query and a document, if it ranks.
    """

    def __init__(self, waiting: EmbeddingQueue, *, scoring: Scoring) -> None:
        self._waiting = waiting
        self._scoring = scoring
        self._requests: dict[int, EmbedRequest | RerankRequest] = {}

    @property
    def has_work(self) -> bool:
        return self._waiting.has_work

    def submit(self, prepared: PreparedInputs) -> list[Message]:
        """Nothing, or why it is refused."""
        try:
            self._waiting.submit(prepared.request_id, prepared.inputs)
        except ApplianceError as error:
            if isinstance(error, PromptTooLong):
                error.param = "input" if isinstance(prepared.request, EmbedRequest) else "documents"
            return [Failed(prepared.request_id, error.record())]
        self._requests[prepared.request_id] = prepared.request
        return []

    def cancel(self, request_id: int) -> None:
        self._waiting.cancel(request_id)
        self._requests.pop(request_id, None)

    def suspend(self, request_id: int) -> None:
        """Changes nothing: these requests have one result, nobody reads half of it."""

    def resume(self, request_id: int) -> None:
        """Nothing was suspended."""

    def relieve(self, relief: Relief) -> None:
        """Changes nothing: nothing is kept here that could be dropped."""

    def pace(self, share: float) -> float:
        """All by waiting between steps."""
        return share

    def ask_slot(self, request_id: int, question: AskSlot) -> Message:  # noqa: ARG002  # the Protocol's
        """Refused: there are no slots."""
        refused = BadRequest("An embedding model has no slots: nothing of it is cached.")
        return Failed(request_id, refused.record())

    def step(self) -> list[Message]:
        return [self._result(end) for end in self._waiting.step()]

    def _result(self, end: Encoded | NotEncoded) -> Message:
        request = self._requests.pop(end.request_id)
        if isinstance(end, NotEncoded):
            return Failed(end.request_id, end.error.record())
        return embed_result(end, request, scoring=self._scoring)

    def work_while_idle(self) -> bool:
        return False

    def prepare_to_stop(self) -> None:
        """Nothing is kept between runs."""

    def heartbeat(self, *, step_age_s: float, tokenize_age_s: float) -> Heartbeat:
        return Heartbeat(
            num_running=len(self._requests),
            num_waiting=0,
            num_steps=self._waiting.num_steps,
            num_used_cells=0,
            step_age_s=step_age_s,
            tokenize_age_s=tokenize_age_s,
        )


def embed_result(
    encoded: Encoded, request: EmbedRequest | RerankRequest, *, scoring: Scoring
) -> EmbedResult:
    """Unit vectors, or scores.

    A score is between 0 and 1 of a model that ranks: a probability, or the logistic
    function of what its classifier says. Of any other it is the cosine of query and
    document.
    """
    vectors = encoded.vectors
    if scoring is Scoring.PROBABILITY:
        values = vectors[:, :1]
    elif scoring is Scoring.LOGIT:
        values = (1 / (1 + np.exp(-vectors[:, :1].astype(np.float64)))).astype(np.float32)
    elif isinstance(request, RerankRequest):
        unit = normalized(vectors)
        values = (unit[1:] @ unit[0])[:, None]
    else:
        values = normalized(vectors)
    return EmbedResult(
        request_id=encoded.request_id,
        values=values.astype("<f4").tobytes(),
        num_values=values.shape[1],
        num_tokens=encoded.num_tokens,
        compute_ms=encoded.compute_ms,
        input_tokens=encoded.input_tokens if isinstance(request, EmbedRequest) else [],
    )


def normalized(vectors: Vectors) -> Vectors:
    """Each row at length 1; one of zeros stays as it is."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)

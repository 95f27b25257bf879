"""The loop of a worker whose model makes vectors: the same threads as around an engine.

Knows no llama.cpp.

A step is one batch of whole inputs; between two, messages are taken, so that who leaves
costs a step at most.
"""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable

from appliance.engine.embedding import EmbeddingQueue, Encoded, NotEncoded
from appliance.errors import ApplianceError, BadRequest, PromptTooLong
from appliance.protocol.events import AskResult, Failed, Message
from appliance.protocol.health import Heartbeat
from appliance.protocol.requests import EmbedRequest, GenerateRequest, RerankRequest
from appliance.worker.channel import BlockingChannel, ChannelClosed
from appliance.worker.child.embedding_inputs import EmbeddingInputs, embedded
from appliance.worker.child.prompts import Prompts
from appliance.worker.child.replies import Reply
from appliance.worker.child.tokenizing import Prepared, PreparedInputs, Tokenizing
from appliance.worker.child.vital import start_vital
from appliance.worker.frames import (
    Ask,
    Cancel,
    Embed,
    StepEvents,
    Stop,
    Submit,
    decode_to_worker,
    encode,
)

_log = logging.getLogger(__name__)
_HEARTBEAT_S = 1.0
_MAX_FLUSH_S = 1.0  # for what is still to be sent when the worker stops


class EmbeddingWorker:
    """`inputs` and `waiting` are of the loaded model; `prepare_thread` is called by
    threads that compute nothing.
    """

    def __init__(
        self,
        channel: BlockingChannel,
        prompts: Prompts,
        inputs: EmbeddingInputs,
        waiting: EmbeddingQueue,
        *,
        ranks: bool,
        prepare_thread: Callable[[], None] = lambda: None,
    ) -> None:
        self._prepare_thread = prepare_thread
        self._channel = channel
        self._waiting = waiting
        self._ranks = ranks
        self._requests: dict[int, EmbedRequest | RerankRequest] = {}
        self._inbox: queue.SimpleQueue[PreparedInputs | Cancel | Stop] = queue.SimpleQueue()
        self._outbox: queue.SimpleQueue[StepEvents | Heartbeat | None] = queue.SimpleQueue()
        self._tokenizing = Tokenizing(prompts, _NoReplies(), self._take_prepared, inputs.tokenize)
        self._step_started_s: float | None = None

    def run(self) -> None:
        """Until `Stop`, or until the parent goes away."""
        sender = start_vital("sender", self._write, prepare=self._prepare_thread)
        tokenizing = self._tokenizing
        others = (self._read, self._beat, tokenizing.run_short, tokenizing.run_long)
        for name, work in zip(
            ("reader", "heart", "short tokenizer", "long tokenizer"), others, strict=True
        ):
            start_vital(name, work, prepare=self._prepare_thread)
        while self._take_messages():
            self._step()
        self._outbox.put(None)
        sender.join(_MAX_FLUSH_S)

    def _step(self) -> None:
        self._step_started_s = time.monotonic()
        ended = self._waiting.step()
        self._step_started_s = None
        if ended:
            self._send([self._answer(end) for end in ended])

    def _answer(self, end: Encoded | NotEncoded) -> Message:
        request = self._requests.pop(end.request_id)
        if isinstance(end, NotEncoded):
            return Failed(end.request_id, end.error.record())
        return embedded(end.request_id, request, end.vectors, end.num_tokens, ranks=self._ranks)

    def _take_messages(self) -> bool:
        """Handles what has come in, waiting for something if there is nothing to
        compute; False means stop.
        """
        while not (self._waiting.has_work and self._inbox.empty()):
            message = self._inbox.get()
            if isinstance(message, Stop):
                return False
            if isinstance(message, Cancel):
                self._waiting.cancel(message.request_id)
                self._requests.pop(message.request_id, None)
            else:
                self._submit(message)
        return True

    def _submit(self, prepared: PreparedInputs) -> None:
        try:
            self._waiting.submit(prepared.request_id, prepared.inputs)
        except ApplianceError as error:
            if isinstance(error, PromptTooLong):
                error.param = "input" if isinstance(prepared.request, EmbedRequest) else "documents"
            self._send([Failed(prepared.request_id, error.record())])
        else:
            self._requests[prepared.request_id] = prepared.request

    def _take_prepared(self, prepared: Prepared | PreparedInputs | AskResult | Failed) -> None:
        """On a tokenizer's thread: what asks for no computing has its answer at once."""
        if isinstance(prepared, PreparedInputs):
            self._inbox.put(prepared)
        elif isinstance(prepared, Prepared):
            self._send([Failed(prepared.request_id, _writes_nothing().record())])
        else:
            self._send([prepared])

    def _send(self, events: list[Message]) -> None:
        self._outbox.put(StepEvents(events))

    def _write(self) -> None:
        """One message after the other, in order; encoded here too, beside the next step."""
        try:
            while (message := self._outbox.get()) is not None:
                self._channel.send(encode(message))
        except ChannelClosed:
            _log.info("the parent is gone")
            self._inbox.put(Stop())

    def _read(self) -> None:
        """Memory pressure (`Relieve`) changes nothing here: nothing is kept that could
        be dropped.
        """
        try:
            while True:
                data = self._channel.receive()
                message = decode_to_worker(data)
                if isinstance(message, Submit | Ask | Embed):
                    self._tokenizing.submit(message, len(data))
                elif isinstance(message, Cancel):
                    self._tokenizing.cancel(message.request_id)
                    self._inbox.put(message)
                elif isinstance(message, Stop):
                    self._inbox.put(message)
        except ChannelClosed:
            self._inbox.put(Stop())

    def _beat(self) -> None:
        while True:
            started_s = self._step_started_s
            beat = Heartbeat(
                num_running=len(self._requests),
                num_waiting=0,
                num_steps=self._waiting.num_steps,
                num_used_cells=0,
                step_age_s=0.0 if started_s is None else time.monotonic() - started_s,
                tokenize_age_s=self._tokenizing.age_s(),
            )
            self._outbox.put(beat)
            time.sleep(_HEARTBEAT_S)


def _writes_nothing() -> BadRequest:
    return BadRequest(
        "This is an embedding model: it writes no text. Use /v1/embeddings or /v1/rerank with "
        "it, or another model.",
        param="model",
    )


class _NoReplies:
    """Nothing is written here; implements `appliance.worker.child.tokenizing.Preparing`."""

    def prepare(self, request: GenerateRequest, rendered: str | None) -> Reply:  # noqa: ARG002 - the Protocol's
        raise _writes_nothing()

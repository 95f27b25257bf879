"""The worker's loop where the model makes vectors of texts: nothing is sampled and nothing kept. Knows no llama.cpp."""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Sequence
from typing import Protocol

from appliance.errors import ApplianceError, BadRequest
from appliance.worker.channel import BlockingChannel, ChannelClosed
from appliance.worker.messages import (
    Answered,
    Ask,
    Cancel,
    Embed,
    Failed,
    Heartbeat,
    StepEvents,
    Stop,
    Submit,
    TextPrompt,
    TokenPrompt,
    ToWorker,
    decode_to_worker,
    encode,
)
from appliance.worker.prompts import Prompts, Vocabulary
from appliance.worker.text_batches import TextBatches
from appliance.worker.vital import start_vital

_log = logging.getLogger(__name__)
_HEARTBEAT_S = 1.0


class Buffer(Protocol):
    def tobytes(self) -> bytes: ...


class TextEncoder(Protocol):
    """Implemented by `appliance.llama.encoder.Encoder`."""

    max_rows: int
    max_texts: int

    def encode(self, texts: Sequence[Sequence[int]]) -> Sequence[Buffer]:
        """A vector of length 1, float32, for each. Raises `DecodeFailed`."""


class WholeTexts(Vocabulary, Protocol):
    """Implemented by `appliance.llama.model.Model`."""

    def tokenize_whole(self, text: str) -> list[int]: ...


class EncodingWorker:
    """One embedding model; texts of requests that wait together are computed together."""

    def __init__(self, channel: BlockingChannel, encoder: TextEncoder, vocabulary: WholeTexts, ctx: int) -> None:
        self._channel = channel
        self._encoder = encoder
        self._vocabulary = vocabulary
        self._ctx = min(ctx, encoder.max_rows)
        self._prompts = Prompts(vocabulary, ctx)
        self._batches = TextBatches(encoder.max_rows, encoder.max_texts)
        self._inbox: queue.SimpleQueue[ToWorker] = queue.SimpleQueue()
        self._num_steps = 0
        self._step_started_s: float | None = None

    def run(self) -> None:
        """Until `Stop`, or until the parent goes away."""
        start_vital("reader", self._read)
        start_vital("heart", self._beat)
        try:
            while self._take_messages():
                self._step()
        except ChannelClosed:
            _log.info("the parent is gone")

    def _take_messages(self) -> bool:
        """Handles what has come in, waiting for something if there is nothing to compute; False means stop."""
        while not (self._batches.num_waiting_texts and self._inbox.empty()):
            message = self._inbox.get()
            if isinstance(message, Stop):
                return False
            if isinstance(message, Cancel):
                self._batches.drop(message.request_id)
            elif isinstance(message, Submit | Ask):
                self._handle(message)
        return True

    def _handle(self, message: Submit | Ask) -> None:
        try:
            if isinstance(message, Submit):
                raise BadRequest(
                    "This model makes embeddings and writes no text: use /v1/embeddings, or another model.",
                    param="model",
                )
            if isinstance(message.question, Embed):
                self._batches.add(message.request_id, self._texts(message.question))
            else:
                self._send(self._prompts.answer(message.request_id, message.question))
        except ApplianceError as error:
            self._send(Failed(message.request_id, error.record()))

    def _texts(self, question: Embed) -> list[list[int]]:
        texts = [
            list(text.tokens) if isinstance(text, TokenPrompt) else self._tokens(text, index, question.param)
            for index, text in enumerate(question.texts)
        ]
        for index, tokens in enumerate(texts):
            where = f"{question.param}[{index}]"
            if not tokens:
                raise BadRequest("It has no tokens.", param=where)
            if len(tokens) > self._ctx:
                raise BadRequest(
                    f"It has {len(tokens)} tokens, and this model takes at most {self._ctx} in one text: split it.",
                    param=where,
                )
            unknown = next((token for token in tokens if not 0 <= token < self._vocabulary.num_vocab), None)
            if unknown is not None:
                raise BadRequest(f"Token id {unknown} is not in the vocabulary.", param=where)
        return texts

    def _tokens(self, text: TextPrompt, index: int, param: str) -> list[int]:
        if len(text.text) > self._ctx * self._vocabulary.longest_piece_bytes():
            raise BadRequest(
                f"It has {len(text.text)} characters, which cannot be {self._ctx} tokens or less: split it.",
                param=f"{param}[{index}]",
            )
        return self._vocabulary.tokenize_whole(text.text)

    def _step(self) -> None:
        batch = self._batches.next_batch()
        self._step_started_s = time.monotonic()
        try:
            vectors = self._encoder.encode([item.tokens for item in batch])
        except ApplianceError as error:
            for request_id in {item.request_id for item in batch}:
                self._batches.drop(request_id)
                self._send(Failed(request_id, error.record()))
            return
        finally:
            self._step_started_s = None
            self._num_steps += 1
        for done in self._batches.take_in(batch, [vector.tobytes() for vector in vectors]):
            self._send(Answered(done.request_id, vectors=done.vectors, num_tokens=done.num_tokens))

    def _send(self, event: Answered | Failed) -> None:
        self._channel.send(encode(StepEvents([event])))

    def _read(self) -> None:
        try:
            while True:
                self._inbox.put(decode_to_worker(self._channel.receive()))
        except ChannelClosed:
            self._inbox.put(Stop())

    def _beat(self) -> None:
        while True:
            started_s = self._step_started_s
            beat = Heartbeat(
                num_running=self._batches.num_requests,
                num_waiting=0,
                num_steps=self._num_steps,
                num_used_cells=0,
                step_age_s=0.0 if started_s is None else time.monotonic() - started_s,
            )
            try:
                self._channel.send(encode(beat))
            except ChannelClosed:
                return
            time.sleep(_HEARTBEAT_S)

"""Tokenizes prompts, compiles grammars and answers questions about tokens, beside everything else.

Knows no engine.

So a long prompt delays no message and no short one.

Two lanes, each a thread and first come, first served: one for requests of up to
`SHORT_BYTES`, one for longer ones.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from appliance.errors import ApplianceError, BadRequest
from appliance.protocol.events import AskResult, Failed
from appliance.protocol.requests import EmbedRequest, GenerateRequest, RerankRequest
from appliance.worker.child.prompts import Prompts
from appliance.worker.child.replies import PLAIN, Reply
from appliance.worker.frames import Ask, Embed, Submit

_log = logging.getLogger(__name__)

SHORT_BYTES = 32 << 10  # of the message: a few milliseconds of tokenizing at most
_SHORT_GRAMMAR_CHARS = 2 << 10


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A request whose prompt is tokenized and whose answer's form is compiled, or could not be."""

    request_id: int
    request: GenerateRequest
    tokens: list[int]
    reply: Reply = PLAIN
    error: ApplianceError | None = None


@dataclass(frozen=True)
class PreparedInputs:
    """A request for vectors whose inputs are tokenized."""

    request_id: int
    request: EmbedRequest | RerankRequest
    inputs: list[list[int]]


def no_embeddings(_request: EmbedRequest | RerankRequest) -> list[list[int]]:
    raise BadRequest(
        "This model writes text and is no embedding model. Serve one beside it (such as "
        "nomic-embed-text, bge or all-MiniLM as GGUF, or a BertModel checkpoint) and name it in "
        "'model'.",
        param="model",
    )


class Preparing(Protocol):
    """Says how a request's answer is read and what it keeps to; implemented by
    `appliance.worker.child.replies.Replies`.
    """

    def prepare(self, request: GenerateRequest, rendered: str | None) -> Reply: ...


class Tokenizing:
    """Takes messages and hands each over as prepared or answered, unless it was
    cancelled meanwhile.

    `hand_over` is called on a lane's thread and must not wait.
    """

    def __init__(
        self,
        prompts: Prompts,
        replies: Preparing,
        hand_over: Callable[[Prepared | PreparedInputs | AskResult | Failed], None],
        tokenize_inputs: Callable[[EmbedRequest | RerankRequest], list[list[int]]] = no_embeddings,
    ) -> None:
        self._prompts = prompts
        self._replies = replies
        self._hand_over = hand_over
        self._tokenize_inputs = tokenize_inputs
        self._wanted: set[int] = set()  # ids between `submit` and their handing over or cancelling
        self._lock = threading.Lock()
        self._short = _Lane()
        self._long = _Lane()

    def submit(self, message: Submit | Ask | Embed, num_bytes: int) -> None:
        """`num_bytes` is the message's size as it came.

        A grammar may take as long as the longest prompt.
        """
        with self._lock:
            self._wanted.add(message.request_id)
        is_long = num_bytes > SHORT_BYTES or (
            isinstance(message, Submit) and _takes_long(message.request)
        )
        lane = self._long if is_long else self._short
        lane.waiting.put(message)

    def cancel(self, request_id: int) -> None:
        """From now on it is not handed over; one that was before is the receiver's to cancel."""
        with self._lock:
            self._wanted.discard(request_id)

    def age_s(self) -> float:
        """How long the oldest tokenization in progress has been running; 0 if there is none."""
        started_s = [
            since for lane in (self._short, self._long) if (since := lane.started_s) is not None
        ]
        return time.monotonic() - min(started_s) if started_s else 0.0

    def run_short(self) -> None:
        """The thread of the short lane; never returns."""
        self._run(self._short)

    def run_long(self) -> None:
        """The thread of the long lane; never returns."""
        self._run(self._long)

    def _run(self, lane: _Lane) -> None:
        while True:
            message = lane.waiting.get()
            if message.request_id not in self._wanted:
                continue
            lane.started_s = time.monotonic()
            prepared = self._safely(message)
            lane.started_s = None
            with self._lock:  # a Cancel that is read now is put behind what is handed over
                if message.request_id in self._wanted:
                    self._wanted.remove(message.request_id)
                    self._hand_over(prepared)

    def _safely(
        self, message: Submit | Ask | Embed
    ) -> Prepared | PreparedInputs | AskResult | Failed:
        """Templates and grammars are programs that others wrote: what they break is one
        request, not the worker.
        """
        try:
            return self._done(message)
        except Exception:  # noqa: BLE001 - whatever it is, the other requests go on
            _log.exception("request %d could not be prepared", message.request_id)
            error = ApplianceError(
                "The request could not be prepared: an error of the server, which is in its log."
            )
            return Failed(message.request_id, error.record())

    def _done(
        self, message: Submit | Ask | Embed
    ) -> Prepared | PreparedInputs | AskResult | Failed:
        if isinstance(message, Submit):
            return self._prepare(message)
        try:
            if isinstance(message, Ask):
                return self._prompts.answer(message.request_id, message.question)
            return PreparedInputs(
                message.request_id, message.request, self._tokenize_inputs(message.request)
            )
        except ApplianceError as error:
            return Failed(message.request_id, error.record())

    def _prepare(self, message: Submit) -> Prepared:
        request = message.request
        try:
            rendered = self._prompts.rendered(request.prompt)
            tokens = self._prompts.tokens(request.prompt, rendered)
            reply = self._replies.prepare(request, rendered)
        except ApplianceError as error:
            return Prepared(request_id=message.request_id, request=request, tokens=[], error=error)
        return Prepared(request_id=message.request_id, request=request, tokens=tokens, reply=reply)


def _takes_long(request: GenerateRequest) -> bool:
    return request.grammar is not None and len(request.grammar.source) > _SHORT_GRAMMAR_CHARS


class _Lane:
    """Messages that wait for one thread, and since when that thread has been at one."""

    def __init__(self) -> None:
        self.waiting: queue.SimpleQueue[Submit | Ask | Embed] = queue.SimpleQueue()
        self.started_s: float | None = None

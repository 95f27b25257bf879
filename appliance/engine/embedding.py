"""Inputs of many requests, computed together by a model that makes a vector of each.

Knows no text and no thread.

Unlike prompts, inputs need no cells and no second step: each is there as a whole in one
step, and then done.
"""

from __future__ import annotations

import enum
import logging
import time
from collections import deque
from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from appliance.errors import ApplianceError, DecodeFailed, PromptSize, PromptTooLong, QueueFull

_log = logging.getLogger(__name__)

Vectors = npt.NDArray[np.float32]


class Scoring(enum.Enum):
    """What the one value is that a model makes of a query and a document."""

    NONE = "none"  # it makes vectors of texts
    LOGIT = "logit"  # of a classifier
    PROBABILITY = "probability"  # that the document is relevant


class InputFrame(NamedTuple):
    """Token ids that a model wants around its inputs."""

    front: tuple[int, ...] = ()
    between: tuple[int, ...] = ()  # a query and a document
    back: tuple[int, ...] = ()


class Encoder(Protocol):
    """A model that makes vectors. Called from one thread only."""

    @property
    def max_rows(self) -> int:
        """Tokens of one step at most, so of one input too."""

    @property
    def max_inputs(self) -> int:
        """Inputs of one step at most."""

    @property
    def num_values(self) -> int:
        """Of each vector."""

    def encode(self, inputs: Seq[Seq[int]]) -> Vectors:
        """float32 [inputs, values], as the model gives them: not normalized.

        Raises `DecodeFailed`.
        """


@dataclass(frozen=True)
class Encoded:
    """A request is done."""

    request_id: int
    vectors: Vectors  # float32 [inputs, values], in the order of its inputs
    num_tokens: int
    compute_ms: float  # its part of the steps that it was in, by tokens
    input_tokens: list[int]  # of each input


@dataclass(frozen=True)
class NotEncoded:
    """A request has failed, as all have that were in its step."""

    request_id: int
    error: ApplianceError


@dataclass(kw_only=True)
class _Job:
    request_id: int
    inputs: Seq[Seq[int]]
    num_tokens: int
    vectors: list[Vectors] = field(default_factory=list)
    num_taken: int = 0
    num_taken_tokens: int = 0
    compute_ms: float = 0.0

    def encoded(self) -> Encoded:
        """Once all of its vectors are there."""
        return Encoded(
            request_id=self.request_id,
            vectors=np.stack(self.vectors),
            num_tokens=self.num_tokens,
            compute_ms=self.compute_ms,
            input_tokens=[*map(len, self.inputs)],
        )

    def take(self) -> Seq[int]:
        tokens = self.inputs[self.num_taken]
        self.num_taken += 1
        self.num_taken_tokens += len(tokens)
        return tokens


class EmbeddingQueue:
    """Requests with inputs left to compute, which take turns: an input of each, so that
    a large one delays nobody.

    A step takes inputs until `fill_rows` tokens are reached; one that is longer, up to
    the encoder's `max_rows`, is computed alone. `max_waiting_tokens` bounds what may
    wait.
    """

    def __init__(
        self,
        encoder: Encoder,
        fill_rows: int,
        max_waiting_tokens: int,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`clock` is in seconds."""
        self._encoder = encoder
        self._fill_rows = min(fill_rows, encoder.max_rows)
        self._max_waiting_tokens = max_waiting_tokens
        self._clock = clock
        self._turns: deque[_Job] = deque()
        self.num_steps = 0

    @property
    def has_work(self) -> bool:
        return bool(self._turns)

    def submit(self, request_id: int, inputs: Seq[Seq[int]]) -> None:
        """Raises `PromptTooLong` for an input that can never be computed, and
        `QueueFull`; then nothing is kept.
        """
        most = self._encoder.max_rows
        for index, tokens in enumerate(inputs):
            assert tokens, "an empty input"
            if len(tokens) > most:
                raise PromptTooLong.because(
                    f"{len(tokens)} tokens, including special tokens, are in input {index}. Inputs "
                    "are never truncated: please reduce the length of the input, or serve with a "
                    "larger --ctx if the model allows one.",
                    PromptSize(len(tokens), most),
                )
        num_tokens = sum(map(len, inputs))
        num_waiting = sum(job.num_tokens - job.num_taken_tokens for job in self._turns)
        if self._turns and num_waiting + num_tokens > self._max_waiting_tokens:
            raise QueueFull(
                f"The queue is full: {num_waiting} tokens are waiting, and this request's "
                f"{num_tokens} would exceed --max-waiting {self._max_waiting_tokens}. "
                "Try again later."
            )
        self._turns.append(_Job(request_id=request_id, inputs=inputs, num_tokens=num_tokens))

    def cancel(self, request_id: int) -> None:
        """Its inputs are not computed any more; an unknown id changes nothing."""
        self._turns = deque(job for job in self._turns if job.request_id != request_id)

    def step(self) -> list[Encoded | NotEncoded]:
        """Computes one batch; returns the requests that it ends."""
        batch = self._batch()
        self.num_steps += 1
        _log.debug(
            "embedding step: %d inputs of %d requests",
            len(batch),
            len({id(job) for job, _ in batch}),
        )
        started_s = self._clock()
        try:
            vectors = self._encoder.encode([tokens for _, tokens in batch])
        except ApplianceError as error:
            return self._drop({job.request_id for job, _ in batch}, error)
        token_ms = (self._clock() - started_s) * 1000 / sum(len(tokens) for _, tokens in batch)
        for (job, tokens), vector in zip(batch, vectors, strict=True):
            job.vectors.append(vector)
            job.compute_ms += len(tokens) * token_ms
        done: list[Encoded | NotEncoded] = []
        for job in {id(job): job for job, _ in batch}.values():
            if not np.isfinite(job.vectors).all():
                done += self._drop(
                    {job.request_id},
                    DecodeFailed("The model computed an embedding with NaN or infinite values."),
                )
            elif len(job.vectors) == len(job.inputs):
                done.append(job.encoded())
        return done

    def _batch(self) -> list[tuple[_Job, Seq[int]]]:
        """The next inputs, one of each request in turn; strictly so, or long ones would
        never be taken.
        """
        batch: list[tuple[_Job, Seq[int]]] = []
        num_rows = 0
        while self._turns and len(batch) < self._encoder.max_inputs:
            job = self._turns[0]
            num_rows += len(job.inputs[job.num_taken])
            if batch and num_rows > self._fill_rows:
                break
            self._turns.popleft()
            batch.append((job, job.take()))
            if job.num_taken < len(job.inputs):
                self._turns.append(job)
        return batch

    def _drop(self, request_ids: set[int], error: ApplianceError) -> list[Encoded | NotEncoded]:
        self._turns = deque(job for job in self._turns if job.request_id not in request_ids)
        return [NotEncoded(request_id, error) for request_id in sorted(request_ids)]

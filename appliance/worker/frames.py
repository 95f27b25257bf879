"""What the serving parent and its worker send each other, and how it is encoded.

Knows no socket.

Encoded as MessagePack (https://msgpack.org) by msgspec; never pickle.
"""

from __future__ import annotations

import msgspec

from appliance.errors import BadRequest, ErrorRecord
from appliance.protocol.events import Message
from appliance.protocol.health import Heartbeat
from appliance.protocol.model_info import ModelInfo
from appliance.protocol.questions import Question
from appliance.protocol.record import Record
from appliance.protocol.relief import Pace, Relief
from appliance.protocol.requests import EmbedRequest, GenerateRequest, RerankRequest
from appliance.worker.config import WorkerConfig

# --- parent to worker -----------------------------------------------------------------


class Load(Record, frozen=True):
    """The first message: load this model, then answer `Ready` or `LoadError`."""

    config: WorkerConfig


class Submit(Record, frozen=True):
    """Ends in `Finished` or `Failed`; `Started` and `Delta`s come before."""

    request_id: int
    request: GenerateRequest


class AskQuestion(Record, frozen=True):
    """Ends in `AskResult` or `Failed`, beside whatever is computed."""

    request_id: int
    question: Question


class Embed(Record, frozen=True):
    """Ends in `EmbedResult` or `Failed`."""

    request_id: int
    request: EmbedRequest | RerankRequest


class Cancel(Record, frozen=True):
    """Nobody reads this answer any more; unknown ids are ignored, for the answer may
    have ended meanwhile.
    """

    request_id: int


class Suspend(Record, frozen=True):
    """Nobody reads this answer for now: its slot is free until `Resume`. Ends in
    `Cancel`, if nobody comes back; unknown ids are ignored, as for `Cancel`.
    """

    request_id: int


class Resume(Record, frozen=True):
    """Somebody reads it again."""

    request_id: int


class Stop(Record, frozen=True):
    """End the process after the step in progress."""


# Of what a worker is to do without, the last one of its kind counts: sending it again
# changes nothing.
ToWorker = Load | Submit | AskQuestion | Embed | Cancel | Suspend | Resume | Relief | Pace | Stop


# --- worker to parent -----------------------------------------------------------------


class Ready(Record, frozen=True):
    """The model is loaded; requests are taken from now on."""

    info: ModelInfo
    load_s: float


class LoadError(Record, frozen=True):
    """The model cannot be loaded, or is lost together with a helper, and the process ends."""

    error: ErrorRecord


class StepEvents(Record, frozen=True):
    """All events of one engine step, for all requests together; or of a request that
    needs no step.
    """

    events: list[Message]


FromWorker = Ready | LoadError | Heartbeat | StepEvents


_encoder = msgspec.msgpack.Encoder()
_to_worker = msgspec.msgpack.Decoder(ToWorker)
_from_worker = msgspec.msgpack.Decoder(FromWorker)


def encode(message: ToWorker | FromWorker) -> bytes:
    """Raises `BadRequest` for a number that MessagePack has no room for, which a tool's
    schema or an argument of the template may hold.
    """
    try:
        return _encoder.encode(message)
    except OverflowError as error:
        raise BadRequest(
            "The request has a whole number of more than 64 bits in its tools, messages or "
            "template arguments. Write it as a string, or as a float (such as 1e30)."
        ) from error


def decode_to_worker(data: bytes) -> ToWorker:
    """Raises `msgspec.DecodeError` on anything that is not a message to a worker."""
    message: ToWorker = _to_worker.decode(data)
    return message


def decode_from_worker(data: bytes) -> FromWorker:
    """Raises `msgspec.DecodeError` on anything that is not a message from a worker."""
    message: FromWorker = _from_worker.decode(data)
    return message

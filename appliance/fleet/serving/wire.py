"""What doors and replicas send each other, as bytes. Knows no Ray.

Requests are the frames that a parent sends its worker, with 0 as id; answers are lists of
events, an error, or nothing at all, which says that the replica lives. MessagePack, as in
`appliance.worker.frames`.
"""

from __future__ import annotations

import msgspec

from appliance.errors import ErrorRecord
from appliance.fleet.routing import Load
from appliance.protocol.events import Message
from appliance.protocol.health import Heartbeat, WorkerState
from appliance.protocol.model_info import ModelInfo
from appliance.protocol.record import Record
from appliance.worker.frames import AskQuestion, Embed, Submit

Sent = Submit | AskQuestion | Embed
BEAT = b""
BEAT_S = 1.0  # between two, where nothing else is sent


class Events(Record, frozen=True):
    """In order; the last one of a request ends it."""

    events: list[Message]


class Refused(Record, frozen=True):
    """The end of a request that the replica could not, or would not, answer."""

    error: ErrorRecord


class AtDoor(Record, frozen=True):
    """What a door has waiting for a model, told with each request."""

    door: str
    num_waiting_tokens: int


class ReplicaState(Record, frozen=True, kw_only=True):
    """What a replica tells all doors of itself, every second or two."""

    node: str  # of which machine it is one
    state: WorkerState
    info: ModelInfo | None = None
    beat: Heartbeat | None = None
    num_restarts: int = 0  # of its worker
    last_error: str | None = None
    tokens_per_s: float | None = None
    choice: str = ""  # of its plan, in words
    predicted_bytes: int = 0
    # what a token of a prompt takes it, and a step of answers, in ms; 0: not measured yet
    prompt_token_ms: float = 0.0
    token_ms: float = 0.0
    loads: dict[str, Load] = msgspec.field(default_factory=dict)  # by door
    prompts: tuple[bytes, ...] = ()  # that came in the last seconds, as `RecentPrompts` has them


_encoder = msgspec.msgpack.Encoder()
_answers = msgspec.msgpack.Decoder(Events | Refused)
_requests = msgspec.msgpack.Decoder(Sent)
_states = msgspec.msgpack.Decoder(ReplicaState)


def encode(message: Events | Refused | ReplicaState) -> bytes:
    return _encoder.encode(message)


def decode_answer(data: bytes) -> Events | Refused:
    """Raises `msgspec.DecodeError`."""
    return _answers.decode(data)


def decode_request(data: bytes) -> Sent:
    """Raises `msgspec.DecodeError`."""
    return _requests.decode(data)


def decode_state(data: bytes) -> ReplicaState:
    """Raises `msgspec.DecodeError`."""
    return _states.decode(data)

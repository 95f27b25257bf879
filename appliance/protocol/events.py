"""What a request is told, from its start to its end. Knows no wire format."""

from __future__ import annotations

import enum

import msgspec

from appliance.errors import ErrorRecord
from appliance.protocol.record import Record


class FinishReason(str, enum.Enum):
    """Why a sequence ended, in OpenAI's words."""

    STOP = "stop"  # end-of-generation token, or a stop string seen by the text layer
    LENGTH = "length"  # max_new_tokens reached, or the context is full
    CANCELLED = "cancelled"  # the client went away; nobody reads the answer


class Drafts(Record, frozen=True):
    """What speculation brought: tokens, and milliseconds saved as expected when it was
    decided and by the clock.
    """

    num_drafted: int = 0
    num_accepted: int = 0
    expected_ms: float = 0.0
    real_ms: float = 0.0


class Times(Record, frozen=True):
    """In milliseconds: up to the answer's first token, waiting included, and from there
    to its last one.
    """

    prompt_ms: float
    completion_ms: float


class Usage(Record, frozen=True, kw_only=True):
    num_prompt_tokens: int
    num_cached_tokens: int
    num_completion_tokens: int
    num_discarded_tokens: int = 0  # by context shifts
    num_reasoning_tokens: int = 0
    drafts: Drafts | None = None  # None where nothing is drafted
    times: Times | None = None  # None where nobody asked


class Started(Record, frozen=True):
    """The request is accepted: tokenized, within the limits, queued."""

    request_id: int
    num_prompt_tokens: int


class LikelyToken(msgspec.Struct, frozen=True, array_like=True):
    """A token and the natural logarithm of the probability that the model gave it,
    before any sampling parameter.

    There is none for the first token of a prompt, which nothing comes before. `piece`
    is its text in UTF-8, maybe only a part of a character; a control token stands for
    none, and `piece` is its name then, such as `<|end|>`.
    """

    piece: bytes
    logprob: float | None
    is_control: bool = False


class SampledToken(msgspec.Struct, frozen=True, array_like=True):
    """One token of an answer, beside the most likely ones at its place, best first.

    Its text begins `text_offset` characters into the answer, which begins with the
    prompt where that is scored.
    """

    chosen: LikelyToken
    top: list[LikelyToken]
    text_offset: int


class ToolCallPart(msgspec.Struct, frozen=True, array_like=True):
    """More of the answer's call `index`: its beginning, with id and name, or the next
    of its arguments' JSON.
    """

    index: int
    arguments: str = ""
    id: str = ""
    name: str = ""


class Delta(Record, frozen=True, kw_only=True):
    """New text, reasoning or part of a call; always whole characters.

    `num_tokens` counts the tokens sampled since the last one. `tokens` are those whose
    text begins in it; None where the request does not ask for log-probabilities.
    """

    request_id: int
    text: str
    num_tokens: int
    tokens: list[SampledToken] | None = None
    reasoning: str = ""
    tool_call: ToolCallPart | None = None


class Finished(Record, frozen=True, kw_only=True):
    request_id: int
    reason: FinishReason
    usage: Usage
    has_tool_calls: bool = False
    stop_string: str = ""  # the one that ended it


class Failed(Record, frozen=True):
    request_id: int
    error: ErrorRecord


Event = Started | Delta | Finished | Failed


class AskResult(Record, frozen=True):
    """To a `Question`: text, or tokens and each one's own text in UTF-8, maybe only a
    part of a character.
    """

    request_id: int
    text: str = ""
    tokens: list[int] = msgspec.field(default_factory=list)
    pieces: list[bytes] = msgspec.field(default_factory=list)


class EmbedResult(Record, frozen=True):
    """To an `Embed`: rows of `num_values` little-endian float32, one for each input,
    each of length 1.

    To a `RerankRequest` one value for each document. `num_tokens` were computed for all
    of them.
    """

    request_id: int
    values: bytes
    num_values: int
    num_tokens: int


Message = Event | AskResult | EmbedResult
"""What a request may be told."""

"""The events of a request, from its start to its end, and the results of questions.

Knows no wire format.
"""

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
    """What speculation brought."""

    num_drafted: int = 0  # tokens
    num_accepted: int = 0  # of them
    expected_ms: float = 0.0  # saved, as expected when drafting was decided on
    real_ms: float = 0.0  # saved, by the clock


class Times(Record, frozen=True):
    """How long a request took, by the worker's clock."""

    prompt_ms: float  # up to the answer's first token, waiting included
    completion_ms: float  # from there to its last one


class Shares(Record, frozen=True, kw_only=True):
    """One request's part of the time in which its model computed: a step's time is divided
    by rows, so that the parts of all requests are the whole.
    """

    prompt_ms: float = 0.0  # rows of its prompt, also those computed again
    answer_ms: float = 0.0  # one row for each token that follows its answer's first one
    draft_ms: float = 0.0  # rows of drafted tokens

    @property
    def total_ms(self) -> float:
        return self.prompt_ms + self.answer_ms + self.draft_ms


class Stages(Record, frozen=True, kw_only=True):
    """How long an accepted request spent in each stage, by the worker's clock."""

    queue_ms: float  # from its acceptance until it had a slot
    prefill_ms: float  # from there to its answer's first token
    decode_ms: float  # from there to its end
    shares: Shares = Shares()


class Route(Record, frozen=True, kw_only=True):
    """Which model answers a request for the model `auto`, and why. Workers know none."""

    model: str  # its id
    score: int  # of the request, out of 100
    reason: str  # in words: what gave the score, and what was wrong with smaller models' answers
    asked: list[str]  # all models that were asked, in their order


class Usage(Record, frozen=True, kw_only=True):
    """What a request took, counted at its end."""

    num_prompt_tokens: int
    num_cached_tokens: int  # of the prompt, taken over from a known prefix
    num_completion_tokens: int  # the token that ends the answer included
    # of the cached ones, from another place of another prompt (`--cache-reuse`)
    num_moved_tokens: int = 0
    num_discarded_tokens: int = 0  # by context shifts
    num_reasoning_tokens: int = 0  # of the completion
    drafts: Drafts | None = None  # None where nothing is drafted
    times: Times | None = None  # None where nobody asked
    energy_j: float | None = None  # None where nobody knows the machine's power
    route: Route | None = None  # as in `Started`


class CacheUse(str, enum.Enum):
    """What a cache of answers had for a request. Workers know no such cache."""

    NONE = ""  # nobody looked
    HIT = "hit"  # all of it
    MISS = "miss"  # not all of it


class Started(Record, frozen=True):
    """The request is accepted: tokenized, within the limits, queued."""

    request_id: int
    num_prompt_tokens: int
    # places in its schemas that the answer may not keep to, as JSON pointers
    unenforced: list[str] = msgspec.field(default_factory=list)
    prompt_token_ids: list[int] = msgspec.field(default_factory=list)  # where the request asks
    cache: CacheUse = CacheUse.NONE
    route: Route | None = None  # None where the request named its model


class LikelyToken(msgspec.Struct, frozen=True, array_like=True):
    """A token, and how likely the model found it before any sampling parameter."""

    piece: bytes  # its text in UTF-8, maybe only a part of a character
    # natural; None for a prompt's first token, which nothing comes before, and where
    # nobody asked
    logprob: float | None
    is_control: bool = False  # it stands for no text: `piece` is its name, such as `<|end|>`
    id: int = -1


class SampledToken(msgspec.Struct, frozen=True, array_like=True):
    """One token of an answer, beside the most likely ones at its place."""

    chosen: LikelyToken
    top: list[LikelyToken]  # best first
    # where its text begins, in characters of the answer, or of prompt and answer where
    # the prompt is scored
    text_offset: int


class ToolCallPart(msgspec.Struct, frozen=True, array_like=True):
    """The beginning of one of the answer's calls,
    with id and name, or more of its arguments.
    """

    index: int  # of the call in the answer
    arguments: str = ""  # the next characters of their JSON
    id: str = ""
    name: str = ""


class PromptProgress(Record, frozen=True, kw_only=True):
    """How far a prompt has been computed, in tokens."""

    num_prompt_tokens: int
    num_cached_tokens: int  # of them, taken over from a known prefix
    num_prefilled_tokens: int  # of them, cached ones included
    time_ms: float  # since the request was accepted, waiting included


class Delta(Record, frozen=True, kw_only=True):
    """New text, reasoning or part of a call; always whole characters."""

    request_id: int
    text: str
    num_tokens: int  # sampled since the last one
    # whose text begins in it; None where the request asks for no log-probabilities
    tokens: list[SampledToken] | None = None
    reasoning: str = ""
    tool_call: ToolCallPart | None = None
    usage: Usage | None = None  # so far; None where the request does not ask for it
    progress: PromptProgress | None = None  # before the answer, where the request asks for it
    # all of `num_tokens`, those that ended the answer included, and those of a stop string;
    # None where the request does not ask for them
    token_ids: list[int] | None = None


class Finished(Record, frozen=True, kw_only=True):
    """The answer is complete; nothing of this request comes after it."""

    request_id: int
    reason: FinishReason
    usage: Usage
    has_tool_calls: bool = False
    stop_string: str = ""  # the one that ended it
    stages: Stages | None = None  # None where nobody measured them
    # The same request would have got the same answer, whenever it had come, as long as the
    # model's `ModelInfo.fingerprint` is the same.
    repeats: bool = False
    cache: CacheUse = CacheUse.NONE  # as in `Started`


class Failed(Record, frozen=True):
    """The request is refused or lost; nothing of it comes after this."""

    request_id: int
    error: ErrorRecord


Event = Started | Delta | Finished | Failed


class AskResult(Record, frozen=True):
    """The result of a `Question`: text, tokens or numbers, whatever was asked for."""

    request_id: int
    text: str = ""
    tokens: list[int] = msgspec.field(default_factory=list)
    # each token's own text in UTF-8, maybe only a part of a character
    pieces: list[bytes] = msgspec.field(default_factory=list)
    num_tokens: int = 0  # of a slot
    num_bytes: int = 0  # of its file


class EmbedResult(Record, frozen=True):
    """The result of an `EmbedRequest`: a vector of length 1 for each input. Of a
    `RerankRequest`: one value for each document.
    """

    request_id: int
    values: bytes  # little-endian float32, row by row
    num_values: int  # of each row
    num_tokens: int  # of all of them
    compute_ms: float = 0.0  # its part of the steps that it was in, by tokens
    input_tokens: list[int] = msgspec.field(default_factory=list)  # of each vector's input
    num_cached_tokens: int = 0  # of all of them, those of vectors that were there already
    cache: CacheUse = CacheUse.NONE


Message = Event | AskResult | EmbedResult
"""Whatever a worker sends about one request."""

"""Everything that crosses between the serving parent and its worker, as plain records. Knows no transport.

Encoded as MessagePack (https://msgpack.org) by msgspec; never pickle.
"""

from __future__ import annotations

from typing import Any

import msgspec

from appliance.engine.relief import Relief
from appliance.engine.sequence import FinishReason, SamplingParams
from appliance.errors import ErrorRecord
from appliance.fit.offload import Offload
from appliance.text.grammar_kind import GrammarKind


class _Record(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Base: immutable, tagged with its class name, encoded without field names."""


# --- what a request is ---------------------------------------------------------------------------------------------


class ChatPrompt(_Record, frozen=True):
    """Messages for the model's own chat template, each a JSON object with at least `role` and `content`.

    `tools` are functions as OpenAI writes them, `arguments` whatever else the template reads. With `goes_on` the answer
    goes on with the last message's text. `reasoning_effort`: see `appliance.text.reasoning_effort`.
    """

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None = None
    arguments: dict[str, Any] = {}
    goes_on: bool = False
    reasoning_effort: str | None = None


class TextPrompt(_Record, frozen=True):
    """Plain text; special tokens written in it stay plain text, and the model's BOS is added if it wants one."""

    text: str


class TokenPrompt(_Record, frozen=True):
    """Token ids, taken as they are."""

    tokens: list[int]


class SourceFile(_Record, frozen=True):
    """A file of the project in which something is to be filled in."""

    name: str
    text: str


class InfillPrompt(_Record, frozen=True):
    """A gap to be filled in: the text `before` it and the one `behind` it, and what of the answer is `begun`.

    All of it stays plain text. `files` are others of the same project. `is_suffix_first`: the model wants what is
    behind the gap first. `param` is the request's field that asks for it, for refusals.
    """

    before: str
    behind: str
    begun: str = ""
    files: list[SourceFile] = []
    is_suffix_first: bool = False
    param: str = "prompt"

    @property
    def num_chars(self) -> int:
        return len(self.before) + len(self.behind) + len(self.begun) + sum(len(file.text) for file in self.files)


class Grammar(_Record, frozen=True):
    """A form that an answer keeps to, as it was sent in the request's field `param`."""

    kind: GrammarKind
    source: str
    param: str


class CallRules(_Record, frozen=True):
    """How an answer may call the prompt's `tools`: with `is_required` it does nothing else, with `only` just that one.

    With `several` more than one call may be made. `is_strict`: what is called is called as its schema says, always.
    """

    is_required: bool = False
    only: str | None = None
    several: bool = True
    is_strict: bool = False


class GenerateRequest(_Record, frozen=True):
    """One generation, whatever wire format asked for it.

    `max_tokens` None means: as far as the context goes. `stop` holds strings that end the answer, not part of it.
    `shifts_context` and `keeps_prefix`: see `appliance.engine.sequence.Sequence`. With `grammar` the answer's text
    matches it, or is the beginning of what does where it ends for another reason. `max_reasoning_tokens` ends a chat's
    reasoning, not its answer. `uses_cache` and `scores_prompt`: see `Sequence` too; a scored prompt's text and tokens
    come in `Delta`s before the answer's. `keep_alive_s` is for who loads models, and nothing to a worker: how long this
    one stays when nobody uses it, infinite for ever. `min_indent` and `max_text_ms`: see
    `appliance.text.line_limits.LineLimits`. `tells_times`: its `Usage` has them.
    """

    prompt: ChatPrompt | TextPrompt | TokenPrompt | InfillPrompt
    sampling: SamplingParams = SamplingParams()
    max_tokens: int | None = None
    stop: list[str] = []
    shifts_context: bool = False
    keeps_prefix: bool = False
    grammar: Grammar | None = None
    calls: CallRules = CallRules()
    max_reasoning_tokens: int | None = None
    uses_cache: bool = True
    scores_prompt: bool = False
    keep_alive_s: float | None = None
    min_indent: int = 0
    max_text_ms: int | None = None
    tells_times: bool = False


class Tokenize(_Record, frozen=True):
    """Which tokens a prompt becomes. Of a text, `adds_special` with the BOS that the model wants, and `parses_special`
    with special tokens that are written in it; chats always so.
    """

    prompt: ChatPrompt | TextPrompt
    adds_special: bool = True
    parses_special: bool = False


class Detokenize(_Record, frozen=True):
    """The text of token ids; control tokens have none."""

    tokens: list[int]


class RenderChat(_Record, frozen=True):
    """What a chat reads after the model's template, before it is tokenized."""

    prompt: ChatPrompt


class DescribeText(_Record, frozen=True):
    """The chat template's source as text, empty if the model has none; as pieces, how BOS and EOS are written."""


class EmbedRequest(_Record, frozen=True):
    """A vector for each input. `keep_alive_s`: as in `GenerateRequest`."""

    inputs: list[TextPrompt | TokenPrompt]
    keep_alive_s: float | None = None


class RerankRequest(_Record, frozen=True):
    """How relevant each document is to the query: one number, higher for more.

    Of a document only its first `max_document_tokens` count (None: all). `keep_alive_s`: as in `GenerateRequest`.
    """

    query: str
    documents: list[str]
    max_document_tokens: int | None = None
    keep_alive_s: float | None = None


Question = Tokenize | Detokenize | RenderChat | DescribeText
"""What a model's vocabulary and template answer, without computing anything."""


# --- parent to worker ----------------------------------------------------------------------------------------------


class DraftConfig(_Record, frozen=True):
    """A model that drafts: sizes of its context in tokens. `is_required`: rather no service than one without it."""

    model_path: str
    kv_cells: int
    max_rows: int
    is_required: bool = True


class WorkerConfig(_Record, frozen=True):
    """All a worker needs to load its model; decided by the parent, never by the worker.

    Sizes are in tokens (`ctx`, `kv_cells`, `max_waiting_tokens`, `resident_prefix_cells`), rows of one decode
    (`max_batch_rows`) and milliseconds (`max_stall_ms`). `kv_type` is a ggml type name such as `f16` or `q8_0`, or two
    as `K/V`. `max_prefix_slowdown`: see `KeepPolicy`. `batch_threads` compute several rows at once (None: as many as
    one), `ubatch_rows` of them together (None: all); quantized KV needs `flash_attention`. `max_row_cells`: see
    `Limits`. `max_draft_rows` of a step may be drafted tokens; `prompt_lookup` drafts from text that is there already.
    `offload` says what goes to GPUs. With `embeds` the model makes vectors of whole inputs of up to `ctx` tokens, and
    writes no text: then slots, cells and prefixes mean nothing.
    """

    model_path: str
    ctx: int
    slots: int
    kv_cells: int
    kv_type: str
    threads: int
    max_batch_rows: int
    max_waiting_tokens: int
    max_stall_ms: int
    resident_prefix_cells: int
    prefix_host_bytes: int
    prefix_disk_bytes: int
    prefix_ttl_s: float
    use_extra_bufts: bool
    prefix_dir: str = ""
    step_times_dir: str = ""
    max_prefix_slowdown: float | None = None
    log_level: str = "info"
    batch_threads: int | None = None
    ubatch_rows: int | None = None
    flash_attention: bool = False
    use_mmap: bool = True
    max_row_cells: int | None = None
    max_draft_rows: int = 0
    prompt_lookup: bool = False
    draft: DraftConfig | None = None
    offload: Offload = Offload()
    embeds: bool = False


class Load(_Record, frozen=True):
    """The first message: load this model, then answer `Ready` or `LoadError`."""

    config: WorkerConfig


class Submit(_Record, frozen=True):
    request_id: int
    request: GenerateRequest


class Ask(_Record, frozen=True):
    """Answered by `Answered` or `Failed`, beside whatever is computed."""

    request_id: int
    question: Question


class Embed(_Record, frozen=True):
    """Answered by `Embedded` or `Failed`."""

    request_id: int
    request: EmbedRequest | RerankRequest


class Cancel(_Record, frozen=True):
    """Nobody reads this answer any more; unknown ids are ignored, for the answer may have ended meanwhile."""

    request_id: int


class Relieve(_Record, frozen=True):
    """What to do without from now on; the last one counts, so that sending it again changes nothing."""

    relief: Relief


class Stop(_Record, frozen=True):
    """End the process after the step in progress."""


ToWorker = Load | Submit | Ask | Embed | Cancel | Relieve | Stop


# --- worker to parent ----------------------------------------------------------------------------------------------


class ModelInfo(_Record, frozen=True):
    """What the worker loaded, as it is served.

    `gpu_layers` are on GPUs; `gpu_bytes` says what llama.cpp has allocated on each, by name. `speculation` names the
    drafters, or says why there are none.
    """

    name: str
    quantization: str
    num_params: int
    num_vocab: int
    ctx: int
    train_ctx: int
    slots: int
    kv_cells: int
    kv_type: str
    has_chat_template: bool
    system_info: str
    gpu_layers: int = 0
    gpu_bytes: dict[str, int] = {}
    speculation: str = "off"
    pooling: str = ""  # of an embedding model: mean, cls, last or rank
    num_embedding_values: int = 0


class Ready(_Record, frozen=True):
    info: ModelInfo
    load_s: float


class LoadError(_Record, frozen=True):
    error: ErrorRecord


class Drafts(_Record, frozen=True):
    """What speculation brought: tokens, and milliseconds saved as expected when it was decided and by the clock."""

    num_drafted: int = 0
    num_accepted: int = 0
    expected_ms: float = 0.0
    real_ms: float = 0.0


class Slot(msgspec.Struct, frozen=True, array_like=True):
    """A request that runs, and how far it has come, in tokens; `state` is a `Status`."""

    id: int
    request_id: int
    state: str
    num_prompt_tokens: int
    num_prefilled_tokens: int
    num_cached_tokens: int
    num_new_tokens: int
    max_new_tokens: int


class Heartbeat(_Record, frozen=True):
    """Sent every second from a thread of its own: the process lives.

    `step_age_s` is how long the current step has been running, `tokenize_age_s` the oldest tokenization in progress,
    `prefix_host_bytes` what saved prefixes take of host memory, `num_sampled_tokens` all tokens generated so far,
    `drafts` what speculation brought to them. `slots` are those in use.
    """

    num_running: int
    num_waiting: int
    num_steps: int
    num_used_cells: int
    step_age_s: float
    tokenize_age_s: float = 0.0
    prefix_host_bytes: int = 0
    num_sampled_tokens: int = 0
    drafts: Drafts = Drafts()
    slots: list[Slot] = []


class Times(_Record, frozen=True):
    """In milliseconds: up to the answer's first token, waiting included, and from there to its last one."""

    prompt_ms: float
    completion_ms: float


class Usage(_Record, frozen=True):
    num_prompt_tokens: int
    num_cached_tokens: int
    num_completion_tokens: int
    num_discarded_tokens: int = 0  # by context shifts
    num_reasoning_tokens: int = 0
    drafts: Drafts | None = None  # None where nothing is drafted
    times: Times | None = None  # None where nobody asked


class Started(_Record, frozen=True):
    """The request is accepted: tokenized, within the limits, queued."""

    request_id: int
    num_prompt_tokens: int


class LikelyToken(msgspec.Struct, frozen=True, array_like=True):
    """A token and the natural logarithm of the probability that the model gave it, before any sampling parameter.

    There is none for the first token of a prompt, which nothing comes before.
    `piece` is its text in UTF-8, maybe only a part of a character; a control token stands for none, and `piece` is its
    name then, such as `<|end|>`.
    """

    piece: bytes
    logprob: float | None
    is_control: bool = False


class SampledToken(msgspec.Struct, frozen=True, array_like=True):
    """One token of an answer, beside the most likely ones at its place, best first.

    Its text begins `text_offset` characters into the answer, which begins with the prompt where that is scored.
    """

    chosen: LikelyToken
    top: list[LikelyToken]
    text_offset: int


class CallDelta(msgspec.Struct, frozen=True, array_like=True):
    """More of the answer's call `index`: its beginning, with id and name, or the next of its arguments' JSON."""

    index: int
    arguments: str = ""
    id: str = ""
    name: str = ""


class Delta(_Record, frozen=True):
    """New text, reasoning or part of a call; always whole characters.

    `num_tokens` counts the tokens sampled since the last one. `tokens` are those whose text begins in it; None where
    the request does not ask for log-probabilities.
    """

    request_id: int
    text: str
    num_tokens: int
    tokens: list[SampledToken] | None = None
    reasoning: str = ""
    call: CallDelta | None = None


class Finished(_Record, frozen=True):
    request_id: int
    reason: FinishReason
    usage: Usage
    has_calls: bool = False
    stop_string: str = ""  # the one that ended it


class Failed(_Record, frozen=True):
    request_id: int
    error: ErrorRecord


Event = Started | Delta | Finished | Failed


class Answered(_Record, frozen=True):
    """To a `Question`: text, or tokens and each one's own text in UTF-8, maybe only a part of a character."""

    request_id: int
    text: str = ""
    tokens: list[int] = []
    pieces: list[bytes] = []


class Embedded(_Record, frozen=True):
    """To an `Embed`: rows of `num_values` little-endian float32, one for each input, each of length 1.

    To a `RerankRequest` one value for each document. `num_tokens` were computed for all of them.
    """

    request_id: int
    values: bytes
    num_values: int
    num_tokens: int


Message = Event | Answered | Embedded
"""What a request may be told."""


class StepEvents(_Record, frozen=True):
    """Everything one engine step has to say, for all sequences together; or an answer to a question."""

    events: list[Message]


FromWorker = Ready | LoadError | Heartbeat | StepEvents


_encoder = msgspec.msgpack.Encoder()
_to_worker = msgspec.msgpack.Decoder(ToWorker)
_from_worker = msgspec.msgpack.Decoder(FromWorker)


def encode(message: ToWorker | FromWorker) -> bytes:
    return _encoder.encode(message)


def decode_to_worker(data: bytes) -> ToWorker:
    """Raises `msgspec.DecodeError` on anything that is no message to a worker."""
    message: ToWorker = _to_worker.decode(data)
    return message


def decode_from_worker(data: bytes) -> FromWorker:
    """Raises `msgspec.DecodeError` on anything that is no message from a worker."""
    message: FromWorker = _from_worker.decode(data)
    return message

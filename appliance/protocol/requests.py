"""What may be asked of a model, whatever wire format asked for it.

Knows no wire format and no answer.
"""

from __future__ import annotations

import enum
from typing import Any

import msgspec

from appliance.protocol.adapters import AdapterUse
from appliance.protocol.grammar_kind import GrammarKind
from appliance.protocol.record import Record
from appliance.protocol.sampling import SamplingParams


class ChatPrompt(Record, frozen=True, kw_only=True):
    """A conversation, for the model's own chat template."""

    messages: list[dict[str, Any]]  # JSON objects with at least `role` and `content`
    tools: list[dict[str, Any]] | None = None  # functions as OpenAI writes them
    # whatever else the template reads
    arguments: dict[str, Any] = msgspec.field(default_factory=dict)
    continue_final_message: bool = False  # the answer goes on with the last message's text
    reasoning_effort: str | None = None  # see `appliance.text.reasoning_effort`


class TextPrompt(Record, frozen=True):
    """Plain text; special tokens written in it stay plain text, and the model's BOS is
    added if it wants one.
    """

    text: str


class TokenPrompt(Record, frozen=True):
    """Token ids, taken as they are."""

    tokens: list[int]


class MixedPrompt(Record, frozen=True):
    """Texts and token ids, one behind the other. Special tokens written in the texts are
    such, and the model's BOS is added if it wants one and a text comes first.
    """

    parts: list[str | list[int]]


class SourceFile(Record, frozen=True):
    """A file of the project in which something is to be filled in."""

    name: str
    text: str


class InfillPrompt(Record, frozen=True, kw_only=True):
    """A gap to be filled in. Special tokens written in its texts stay plain text."""

    prefix: str  # the text before the gap
    suffix: str  # the text after it
    prefill: str = ""  # the beginning of the answer
    # others of the same project
    files: list[SourceFile] = msgspec.field(default_factory=list)
    is_suffix_first: bool = False  # the model wants the suffix before the prefix
    param: str = "prompt"  # the request's field that asks for it, for refusals

    @property
    def num_chars(self) -> int:
        return (
            len(self.prefix)
            + len(self.suffix)
            + len(self.prefill)
            + sum(len(file.text) for file in self.files)
        )


GenerationPrompt = ChatPrompt | TextPrompt | TokenPrompt | MixedPrompt | InfillPrompt


class Grammar(Record, frozen=True):
    """A form that an answer keeps to, as it was sent in the request's field `param`."""

    kind: GrammarKind
    source: str
    param: str
    is_strict: bool = False  # what of it cannot be enforced is refused


class ToolCallRules(Record, frozen=True):
    """How an answer may call the prompt's `tools`."""

    is_required: bool = False  # it does nothing else
    only: str | None = None  # the one that may be called; None: any
    several: bool = True  # more than one call may be made
    is_strict: bool = False  # arguments keep to the tool's schema, always
    # tools of whose schemas what cannot be enforced is refused
    strict_names: list[str] = msgspec.field(default_factory=list)


class GenerateRequest(Record, frozen=True, kw_only=True):
    """One generation, whatever wire format asked for it."""

    prompt: GenerationPrompt
    sampling: SamplingParams = SamplingParams()
    max_tokens: int | None = None  # of the answer; None: as many as fit into the context
    # strings that end the answer, and are no part of it
    stop: list[str] = msgspec.field(default_factory=list)
    shifts_context: bool = False  # see `appliance.engine.sequence.Sequence`
    keeps_prefix: bool = False  # see `Sequence`
    # The answer's text matches it, or is the beginning of what does where it ends for
    # another reason.
    grammar: Grammar | None = None
    tool_calls: ToolCallRules = ToolCallRules()
    max_reasoning_tokens: int | None = None  # ends a chat's reasoning, not its answer
    may_lack_reasoning: bool = False  # a model that does not reason takes that limit too
    uses_cache: bool = True  # see `Sequence`
    # Refused where the answer may depend on what is computed beside it, cached or
    # drafted. None: as the server has it.
    is_exact: bool | None = None
    # See `Sequence`; the prompt's text and tokens come in `Delta`s before the answer's.
    scores_prompt: bool = False
    # Of each kind, those that it is computed with, in place of what is usual for the model.
    # Workers are given all of them by name, and with their scales.
    loras: list[AdapterUse] | None = None
    control_vectors: list[AdapterUse] | None = None
    # How long the model stays loaded when nobody uses it; infinite: for ever. For
    # whoever loads models: workers ignore it.
    keep_alive_s: float | None = None
    min_indent: int = 0  # see `appliance.text.line_limits.LineLimits`
    max_text_ms: int | None = None  # see `LineLimits`
    includes_times: bool = False  # in `Usage`
    reports_tokens: bool = False  # `Delta.token_ids`
    reports_prompt_tokens: bool = False  # `Started.prompt_token_ids`
    reports_usage: bool = False  # `Delta.usage`
    reports_progress: bool = False  # `Delta.progress`, after each step of the prompt
    # Where it is not empty: a reader who leaves early may go on by it, see
    # `appliance.worker.client.Client.resume`. Workers ignore it.
    resume_id: str = ""
    # Nobody reads the answer before its end, so that it may be begun anew elsewhere: for
    # whoever has several workers. Workers ignore it.
    is_whole: bool = False

    @property
    def adapters(self) -> list[AdapterUse]:
        """Of both kinds, as workers are given them."""
        return [*(self.loras or ()), *(self.control_vectors or ())]

    @property
    def has_one_answer(self) -> bool:
        """Whether neither chance nor the clock has a part in it."""
        return self.sampling.has_one_answer and self.max_text_ms is None


class TextRole(str, enum.Enum):
    """What a text is for which a vector is made."""

    QUERY = "query"
    DOCUMENT = "document"


class EmbedRequest(Record, frozen=True):
    """A vector for each input."""

    inputs: list[TextPrompt | TokenPrompt]
    keep_alive_s: float | None = None  # as in `GenerateRequest`
    # what the texts are: the model's own prompt for that goes in front of them, if it has one
    role: TextRole | None = None


class RerankRequest(Record, frozen=True):
    """How relevant each document is to the query: one number, higher for more."""

    query: str
    documents: list[str]
    max_document_tokens: int | None = None  # only so many of each count; None: all
    keep_alive_s: float | None = None  # as in `GenerateRequest`

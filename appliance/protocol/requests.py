"""What may be asked of a model, whatever wire format asked for it.

Knows no wire format and no answer.
"""

from __future__ import annotations

from typing import Any

import msgspec

from appliance.protocol.grammar_kind import GrammarKind
from appliance.protocol.record import Record
from appliance.protocol.sampling import SamplingParams


class ChatPrompt(Record, frozen=True, kw_only=True):
    """Messages for the model's own chat template, each a JSON object with at least
    `role` and `content`.

    `tools` are functions as OpenAI writes them, `arguments` whatever else the template
    reads. With `continue_final_message` the answer goes on with the last message's text.
    `reasoning_effort`: see `appliance.text.reasoning_effort`.
    """

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None = None
    arguments: dict[str, Any] = msgspec.field(default_factory=dict)
    continue_final_message: bool = False
    reasoning_effort: str | None = None


class TextPrompt(Record, frozen=True):
    """Plain text; special tokens written in it stay plain text, and the model's BOS is
    added if it wants one.
    """

    text: str


class TokenPrompt(Record, frozen=True):
    """Token ids, taken as they are."""

    tokens: list[int]


class SourceFile(Record, frozen=True):
    """A file of the project in which something is to be filled in."""

    name: str
    text: str


class InfillPrompt(Record, frozen=True, kw_only=True):
    """A gap to be filled in: the text `prefix` before it and the one `behind` it, and what of
    the answer is `begun`.

    All of it stays plain text. `files` are others of the same project.
    `is_suffix_first`: the model wants what is behind the gap first. `param` is the
    request's field that asks for it, for refusals.
    """

    prefix: str
    suffix: str
    prefill: str = ""
    files: list[SourceFile] = msgspec.field(default_factory=list)
    is_suffix_first: bool = False
    param: str = "prompt"

    @property
    def num_chars(self) -> int:
        return (
            len(self.prefix)
            + len(self.suffix)
            + len(self.prefill)
            + sum(len(file.text) for file in self.files)
        )


class Grammar(Record, frozen=True):
    """A form that an answer keeps to, as it was sent in the request's field `param`."""

    kind: GrammarKind
    source: str
    param: str


class ToolCallRules(Record, frozen=True):
    """How an answer may call the prompt's `tools`: with `is_required` it does nothing
    else, with `only` just that one.

    With `several` more than one call may be made. `is_strict`: what is called is called
    as its schema says, always.
    """

    is_required: bool = False
    only: str | None = None
    several: bool = True
    is_strict: bool = False


class GenerateRequest(Record, frozen=True, kw_only=True):
    """One generation, whatever wire format asked for it.

    `max_tokens` None means: as far as the context goes. `stop` holds strings that end
    the answer, not part of it. `shifts_context` and `keeps_prefix`: see
    `appliance.engine.sequence.Sequence`. With `grammar` the answer's text matches it,
    or is the beginning of what does where it ends for another reason.
    `max_reasoning_tokens` ends a chat's reasoning, not its answer. `uses_cache` and
    `scores_prompt`: see `Sequence` too; a scored prompt's text and tokens come in
    `Delta`s before the answer's. `keep_alive_s` is for who loads models, and nothing to
    a worker: how long this one stays when nobody uses it, infinite for ever.
    `min_indent` and `max_text_ms`: see `appliance.text.line_limits.LineLimits`.
    `includes_times`: its `Usage` has them.
    """

    prompt: ChatPrompt | TextPrompt | TokenPrompt | InfillPrompt
    sampling: SamplingParams = SamplingParams()
    max_tokens: int | None = None
    stop: list[str] = msgspec.field(default_factory=list)
    shifts_context: bool = False
    keeps_prefix: bool = False
    grammar: Grammar | None = None
    tool_calls: ToolCallRules = ToolCallRules()
    max_reasoning_tokens: int | None = None
    uses_cache: bool = True
    scores_prompt: bool = False
    keep_alive_s: float | None = None
    min_indent: int = 0
    max_text_ms: int | None = None
    includes_times: bool = False


class EmbedRequest(Record, frozen=True):
    """A vector for each input. `keep_alive_s`: as in `GenerateRequest`."""

    inputs: list[TextPrompt | TokenPrompt]
    keep_alive_s: float | None = None


class RerankRequest(Record, frozen=True):
    """How relevant each document is to the query: one number, higher for more.

    Of a document only its first `max_document_tokens` count (None: all).
    `keep_alive_s`: as in `GenerateRequest`.
    """

    query: str
    documents: list[str]
    max_document_tokens: int | None = None
    keep_alive_s: float | None = None

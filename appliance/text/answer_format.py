"""What a model's way of writing answers is: how reasoning and calls are told from text,
and how it is kept to. Knows no model and no particular way.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Protocol

from appliance.text.answer_parts import Parts
from appliance.text.calls.syntax import CallIds, Tool, Tools
from appliance.text.characters import Characters, Reading
from appliance.text.lark import Lark


class Opening(enum.Enum):
    """Where the prompt leaves the answer."""

    FRESH = "fresh"  # it may begin with reasoning
    REASONING = "reasoning"  # the prompt has begun it
    ANSWERING = "answering"  # what comes is the answer proper


class AnswerFormat(Protocol):
    """One way of writing answers; holds no state."""

    @property
    def marks(self) -> Sequence[str]:
        """Every literal with a meaning: those of them that are special tokens are to be
        read as their names.
        """

    @property
    def can_reason(self) -> bool: ...

    @property
    def is_plain(self) -> bool:
        """Whether an answer without calls is nothing but its text."""

    @property
    def call_ids(self) -> CallIds: ...

    @property
    def begin_of_reasoning(self) -> str:
        """Empty where there is none; so too its end."""

    @property
    def end_of_reasoning(self) -> str: ...

    def forced_end(self, *, may_call: bool) -> str:
        """What ends the reasoning, and whatever has to be behind it before text, or,
        with `may_call`, before a call.
        """

    def opening(self, prompt: str, prefill: str | None) -> Opening:
        """Of an answer to `prompt`; `prefill` is the text of the turn that the
        prompt ends with, if the answer continues one.
        """

    def read(
        self, characters: Characters, parts: Parts, tools: Tools, opening: Opening
    ) -> Reading[None]:
        """A whole answer, to `END`. Without `tools` no calls are looked for."""

    def lark_text(self, lark: Lark, opening: Opening, form: str) -> str:
        """An expression of answers whose text is `form`, with whatever reasoning the
        opening allows before it.
        """

    def lark_calls(
        self, lark: Lark, opening: Opening, tools: Sequence[Tool], *, several: bool
    ) -> str:
        """An expression of answers that, but for reasoning, are one call of one of
        `tools`, or with `several` more.
        """

    def lark_any(
        self, lark: Lark, opening: Opening, tools: Sequence[Tool], *, several: bool
    ) -> str:
        """An expression of any answers, of which calls are only as in `lark_calls`."""

"""One request's output between its start and its end: what is known of it so far.

Knows no vocabulary and no engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from appliance.engine.scoring import Prefilled
from appliance.protocol.events import PromptProgress, Times, Usage
from appliance.text.answer import Answer
from appliance.text.answer_parser import AnswerParser
from appliance.text.answer_parts import CallEnded, Part
from appliance.worker.child.outputs.held_tokens import HeldTokens


@dataclass(kw_only=True)
class LiveOutput:
    """Of a request between `Started` and its end."""

    answer: Answer
    parser: AnswerParser | None
    num_prompt_tokens: int
    several_calls: bool
    timer: OutputTimer | None = None  # None where nobody asked
    includes_times: bool = False
    num_emitted_tokens: int = 0  # in `Delta`s so far
    num_reasoning_tokens: int = 0
    num_calls: int = 0
    is_reasoning: bool = False
    has_called_once: bool = False  # where only one call is allowed: it is complete
    includes_end_token: bool = False  # in the tokens that are reported
    held: HeldTokens | None = None  # where log-probabilities are reported
    token_ids: list[int] | None = None  # sampled since the last `Delta`; None where nobody asked
    reports_usage: bool = False
    reports_progress: bool = False
    # what each token of a scored prompt brings to its text
    echoed: Iterator[bytes] = field(default_factory=lambda: iter(()))
    drops_space: bool = False  # in front of the answer, if its first token has one
    end_of_turn: str = ""  # ends the answer, and is no stop string that anybody sent
    repeats: bool = False  # whatever is computed beside it: see `Finished`

    @property
    def is_over(self) -> bool:
        return self.answer.stopped or self.has_called_once

    @property
    def stop_string(self) -> str:
        """The one that was sent and ended the answer; empty if none did."""
        found = self.answer.stop_string
        return "" if found == self.end_of_turn else found

    def shows(self, name: str) -> bool:
        """Whether the special token called `name` means something in this answer."""
        return name == self.end_of_turn or (self.parser is not None and self.parser.has_mark(name))

    def times(self) -> Times | None:
        return None if self.timer is None or not self.includes_times else self.timer.times()

    def progress(self, output: Prefilled) -> PromptProgress | None:
        if not self.reports_progress or self.timer is None:
            return None
        return PromptProgress(
            num_prompt_tokens=self.num_prompt_tokens,
            num_cached_tokens=output.num_cached_tokens,
            num_prefilled_tokens=output.num_prefilled_tokens,
            time_ms=self.timer.times().prompt_ms,
        )

    def usage(self, num_new_tokens: int, num_cached_tokens: int) -> Usage | None:
        """So far; None where nobody asked."""
        if not self.reports_usage:
            return None
        return Usage(
            num_prompt_tokens=self.num_prompt_tokens,
            num_cached_tokens=num_cached_tokens,
            num_completion_tokens=num_new_tokens,
            times=self.times(),
        )

    def take_token_ids(self) -> list[int] | None:
        """Those that no `Delta` has had; None where nobody asked."""
        taken = self.token_ids
        if taken is not None:
            self.token_ids = []
        return taken

    def up_to_only_call(self, parts: list[Part]) -> list[Part]:
        """Where only one call is allowed, nothing after it."""
        if self.several_calls or not any(isinstance(part, CallEnded) for part in parts):
            return parts
        self.has_called_once = True
        at = next(at for at, part in enumerate(parts) if isinstance(part, CallEnded))
        return parts[: at + 1]


class OutputTimer:
    """How long a prompt took, waiting included, and how long its answer since."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began_s = clock()
        self._first_s: float | None = None

    def note_token(self) -> None:
        if self._first_s is None:
            self._first_s = self._clock()

    def times(self) -> Times:
        now_s = self._clock()
        first_s = now_s if self._first_s is None else self._first_s
        return Times((first_s - self._began_s) * 1000, (now_s - first_s) * 1000)

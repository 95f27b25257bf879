"""How long a request waited, how long its prompt took, and how long its answer; and what
part of the steps that it was in was its own.

Knows no request and no text.
"""

from __future__ import annotations

from collections.abc import Callable

from appliance.protocol.events import Shares, Stages


class StageTimes:
    """Of one request, from its acceptance on; `clock` is in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._accepted_s = clock()
        self._admitted_s: float | None = None
        self._first_s: float | None = None
        self._prompt_ms = self._answer_ms = self._draft_ms = 0.0

    def note_admitted(self) -> None:
        """It has a slot; only the first time counts."""
        if self._admitted_s is None:
            self._admitted_s = self._clock()

    def note_token(self) -> None:
        """There is a token of its answer; only the first one counts."""
        if self._first_s is None:
            self._first_s = self._clock()

    def add_known(self, elapsed_ms: float, *, is_prompt: bool) -> None:
        """Its rows took so much of a step: those of its prompt, or that of the token sampled
        last.
        """
        if is_prompt:
            self._prompt_ms += elapsed_ms
        else:
            self._answer_ms += elapsed_ms

    def add_drafted(self, elapsed_ms: float) -> None:
        """The rows of its drafted tokens took so much of a step."""
        self._draft_ms += elapsed_ms

    def stages(self) -> Stages:
        """Up to now."""
        now_s = self._clock()
        admitted_s = now_s if self._admitted_s is None else self._admitted_s
        first_s = now_s if self._first_s is None else self._first_s
        return Stages(
            queue_ms=(admitted_s - self._accepted_s) * 1000,
            prefill_ms=(first_s - admitted_s) * 1000,
            decode_ms=(now_s - first_s) * 1000,
            shares=Shares(
                prompt_ms=self._prompt_ms, answer_ms=self._answer_ms, draft_ms=self._draft_ms
            ),
        )

"""Ends an answer at a line that is indented too little,
or at a line's end once its time is over.

Knows no tokens.

Source: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md,
`n_indent` and `t_max_predict_ms`.
"""

from __future__ import annotations

from collections.abc import Callable

_INDENTATION = " \t"


class LineLimits:
    """`min_indent`: characters before the first other one of every line but the first,
    an empty one has none.

    `max_s` counts from the first text on and is looked at where a line ends, so that no
    line is left half written; None for no limit. `clock` gives seconds.
    """

    def __init__(self, min_indent: int, max_s: float | None, clock: Callable[[], float]) -> None:
        self._min_indent = min_indent
        self._max_s = max_s
        self._clock = clock
        self._began_s: float | None = None
        self._is_indentation = False  # what comes next, of a line that may be left out
        self._held = ""
        self.found = False

    @property
    def is_holding(self) -> bool:
        return bool(self._held)

    def feed(self, text: str) -> str:
        """The text that is safe to emit; sets `found` where the answer ends, and emits
        what came before.
        """
        if self._began_s is None:
            self._began_s = self._clock()
        rest, self._held = self._held + text, ""
        safe = ""
        while rest and not self.found:
            if self._is_indentation:
                size = len(rest) - len(rest.lstrip(_INDENTATION))
                if size == len(rest):
                    self._held = rest
                    break
                if size < self._min_indent:
                    self.found = True
                    break
            line, end, rest = rest.partition("\n")
            safe += line + end
            self._is_indentation = bool(end) and self._min_indent > 0
            self.found = bool(end) and self._is_late()
        return safe

    def flush(self) -> str:
        """The indentation of a line that never came, at the end of the answer."""
        held, self._held = self._held, ""
        return held

    def _is_late(self) -> bool:
        assert self._began_s is not None
        return self._max_s is not None and self._clock() - self._began_s > self._max_s

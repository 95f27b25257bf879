"""One answer's way from token bytes to its parts: detokenize, tell parts apart, look
for where the text has to end.

Knows no tokens and no engine.
"""

from __future__ import annotations

from collections.abc import Sequence

from appliance.text.answer_parser import AnswerParser
from appliance.text.answer_parts import Part, Parts, Text
from appliance.text.detokenizer import Detokenizer
from appliance.text.line_limits import LineLimits
from appliance.text.stop_strings import StopStrings


class Answer:
    """Feeds pieces through; `stopped` once its text has ended the answer.

    Without `parser` it is all text.
    """

    def __init__(
        self,
        stop: Sequence[str],
        parser: AnswerParser | None = None,
        limits: LineLimits | None = None,
        min_pieces: int = 0,
    ) -> None:
        """No text ends the answer in its first `min_pieces` pieces, nor is it a part of
        what does.
        """
        self._detokenizer = Detokenizer()
        self._parser = parser
        self._stop_strings = StopStrings(stop)
        self._limits = limits
        self._min_pieces = min_pieces

    @property
    def stopped(self) -> bool:
        return self._stop_strings.found or self.is_cut

    @property
    def is_cut(self) -> bool:
        """Whether a limit of its lines ended the answer."""
        return self._limits is not None and self._limits.found and not self._stop_strings.found

    @property
    def stop_string(self) -> str:
        """The one that ended the answer; empty if none did."""
        return self._stop_strings.matched

    @property
    def holds_text(self) -> bool:
        """Whether some text waits to turn out the beginning
        of a stop string, or not.
        """
        return self._stop_strings.is_holding or (
            self._limits is not None and self._limits.is_holding
        )

    def echo(self, piece: bytes) -> str:
        """What is in front of the answer: nothing is looked for in it."""
        return self._detokenizer.feed(piece)

    def feed(self, piece: bytes) -> list[Part]:
        """What is certain to belong to the answer."""
        parts = self._parts(self._detokenizer.feed(piece))
        if self._min_pieces > 0:
            self._min_pieces -= 1
            return parts
        return self._without_stop(parts)

    def flush(self, *, is_cut: bool = False) -> list[Part]:
        """The rest, once no more pieces come; nothing if its text ended the answer.

        `is_cut`: see `AnswerParser.finish`.
        """
        if self.stopped:
            return []
        parts = self._parts(self._detokenizer.flush())
        if self._parser is not None:
            parts += self._parser.finish(is_cut=is_cut)
        rest = self._without_stop(parts)
        return rest if self.stopped else [*rest, *_text(self._rest())]

    def _parts(self, text: str) -> list[Part]:
        return _text(text) if self._parser is None else self._parser.feed(text)

    def _without_stop(self, parts: Sequence[Part]) -> list[Part]:
        """A stop string is one of the text alone,
        and of no text with something else in between.
        """
        collected = Parts()
        for part in parts:
            if self.stopped:
                break
            if isinstance(part, Text):
                collected.add_text(self._up_to_stop(part.text))
            else:
                collected.add_text(self._rest())
                collected.add(part)
        return collected.take()

    def _up_to_stop(self, text: str) -> str:
        if self._limits is None:
            return self._stop_strings.feed(text)
        safe = self._stop_strings.feed(self._limits.feed(text))
        # A line's limit is no stop string: what was held back for one belongs to the
        # answer.
        return safe + self._stop_strings.flush() if self._limits.found else safe

    def _rest(self) -> str:
        """What is held back and turned out to be plain text."""
        safe = "" if self._limits is None else self._stop_strings.feed(self._limits.flush())
        return safe + self._stop_strings.flush()


def _text(text: str) -> list[Part]:
    return [Text(text)] if text else []

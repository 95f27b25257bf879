"""Text that comes bit by bit, read as if it were all there. Knows no format.

A reader is a generator that yields where it needs another character: `yield from
characters.take()`. So a format's grammar is written as plain sequential code, and where
the text was cut can make no difference to it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

from appliance.text.answer_parts import Part, Parts

Result = TypeVar("Result")
Reading = Generator[None, str, Result]
END = ""  # what is read behind the last character, however often


class NotThisForm(Exception):
    """The text is not what was expected."""


class CutShort(NotThisForm):
    """So far it was, but it ends too soon."""


class Characters:
    """What is being read; also remembers it, for what is given up half-way."""

    def __init__(self) -> None:
        self._ahead: list[str] = []  # the next one last
        self._read: list[str] = []
        self._is_recording = False
        self.is_cut = False  # at the end of the text: more would have come

    def take(self) -> Reading[str]:
        """The next character, or `END`."""
        if self._ahead:
            character = self._ahead.pop()
        else:
            character = yield
        if self._is_recording and character:
            self._read.append(character)
        return character

    def put_back(self, text: str) -> None:
        """`text`, read just now, is to be read again."""
        self._ahead.extend(reversed(text))
        if self._is_recording and text:
            del self._read[-len(text) :]

    def peek(self) -> Reading[str]:
        """The next character, or `END`; it stays the next."""
        character = yield from self.take()
        self.put_back(character)
        return character

    def record(self) -> None:
        """From here on what is read is kept for `recorded`."""
        self._is_recording, self._read = True, []

    def recorded(self) -> str:
        """What was read since `record`, which ends."""
        text = "".join(self._read)
        self._is_recording, self._read = False, []
        return text

    def skip_blanks(self) -> Reading[str]:
        """Reads white space, and returns the first character
        behind it, which stays the next.
        """
        while True:
            character = yield from self.take()
            if not character.isspace():
                self.put_back(character)
                return character

    def expect(self, text: str) -> Reading[None]:
        """Reads `text`.

        Raises `NotThisForm` if there is something else, of which one character has been
        read.
        """
        for expected in text:
            character = yield from self.take()
            if character != expected:
                raise NotThisForm if character else CutShort

    def skip(self, text: str) -> Reading[bool]:
        """Reads `text` if it is what comes next, and says whether it did."""
        for at, expected in enumerate(text):
            character = yield from self.take()
            if character != expected:
                self.put_back(text[:at] + character)
                return False
        return True

    def until(self, ends: Sequence[str], max_chars: int) -> Reading[tuple[str, str]]:
        """What comes before the first of `ends`, and that end, which is read too.

        Raises `NotThisForm` if there is none within `max_chars`, or at all.
        """
        text = ""
        while len(text) <= max_chars:
            character = yield from self.take()
            if character == END:
                raise CutShort
            text += character
            found = next((end for end in ends if text.endswith(end)), None)
            if found is not None:
                return text[: -len(found)], found
        raise NotThisForm

    def passing(
        self,
        marks: Sequence[str],
        emit: Callable[[str], None],
        emit_rest: Callable[[str], None] | None = None,
    ) -> Reading[str]:
        """Emits the text before the first of `marks` as it becomes certain; reads the
        mark too, and returns it.

        `END` where none comes; what could have become a mark then is for `emit_rest`,
        or also `emit`. Of no two marks may one be the beginning of the other.
        """
        first_characters = {mark[0] for mark in marks}
        held = ""
        while True:
            character = yield from self.take()
            if not held and character and character not in first_characters:  # as nearly always
                emit(character)
                continue
            held += character
            if held in marks:
                return held
            while held and not any(mark.startswith(held) for mark in marks):
                emit(held[0])
                held = held[1:]
            if character == END:
                if held:
                    (emit_rest or emit)(held)
                return END


class Reader:
    """Feeds a reading with text as it comes, and hands out the parts that it finds."""

    def __init__(self, reading: Reading[None], characters: Characters, parts: Parts) -> None:
        self._reading = reading
        self._characters = characters
        self._parts = parts
        self._is_over = False
        self._advance(None)

    def feed(self, text: str) -> list[Part]:
        for character in text:
            self._advance(character)
        return self._parts.take()

    def finish(self, *, is_cut: bool) -> list[Part]:
        """What is certain now that nothing more comes;
        `is_cut`: though more would have come.
        """
        self._characters.is_cut = is_cut
        while not self._is_over:
            self._advance(END)
        return self._parts.take()

    def _advance(self, character: str | None) -> None:
        assert not self._is_over, "a reading ends with its text"
        try:
            next(self._reading) if character is None else self._reading.send(character)
        except StopIteration:
            self._is_over = True

"""Reads one answer, in whatever pieces it comes. Knows no format: it is handed one."""

from __future__ import annotations

from appliance.text.answer_format import AnswerFormat, Opening
from appliance.text.answer_parts import Part, Parts
from appliance.text.calls.syntax import Tools
from appliance.text.characters import Characters, Reader


class AnswerParser:
    """Without `tools` no calls are looked for."""

    def __init__(self, form: AnswerFormat, tools: Tools, opening: Opening) -> None:
        self.begins_with_reasoning = opening is Opening.REASONING
        self.call_ids = form.call_ids
        self._marks = form.marks
        characters, parts = Characters(), Parts()
        self._reader = Reader(form.read(characters, parts, tools, opening), characters, parts)

    def has_mark(self, name: str) -> bool:
        """Whether the special token called `name` means something here: then its name
        is to be fed.
        """
        return any(name in mark for mark in self._marks)

    def feed(self, text: str) -> list[Part]:
        """What is certain now of the answer, in order."""
        return self._reader.feed(text)

    def finish(self, *, is_cut: bool) -> list[Part]:
        """The rest; `is_cut`: the answer was ended before its end, so that half a call
        is no text.
        """
        return self._reader.finish(is_cut=is_cut)

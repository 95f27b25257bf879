"""Answers in which marks set reasoning and calls apart from text: most models' way.

Knows no model's marks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from appliance.text.answer_format import Opening
from appliance.text.answer_parts import Parts
from appliance.text.calls.syntax import MORE_CALLS, CallIds, CallSyntax, Tool, Tools
from appliance.text.characters import END, Characters, CutShort, NotThisForm, Reading
from appliance.text.lark import BLANKS, NOTHING, Lark, either


@dataclass(frozen=True)
class ReasoningMarks:
    begin: str
    end: str


@dataclass(frozen=True)
class MarkedFormat:
    """Marks around reasoning and around calls; everything else is text."""

    reasoning: ReasoningMarks | None = None
    calls: tuple[CallSyntax, ...] = ()  # read in every form, written in the first
    dropped: tuple[str, ...] = ()  # marks that stand for nothing

    @property
    def marks(self) -> Sequence[str]:
        reasoning = [self.reasoning.begin, self.reasoning.end] if self.reasoning else []
        literals = [text for call in self.calls for text in _literals(call)]
        return [mark for mark in dict.fromkeys([*reasoning, *literals, *self.dropped]) if mark]

    @property
    def can_reason(self) -> bool:
        return self.reasoning is not None

    @property
    def is_plain(self) -> bool:
        return self.reasoning is None

    @property
    def call_ids(self) -> CallIds:
        return self.calls[0].ids if self.calls else CallIds.ANY

    @property
    def begin_of_reasoning(self) -> str:
        return self.reasoning.begin if self.reasoning else ""

    @property
    def end_of_reasoning(self) -> str:
        return self.reasoning.end if self.reasoning else ""

    def forced_end(self, *, may_call: bool) -> str:  # noqa: ARG002 - the Protocol's
        return f"\n{self.end_of_reasoning}\n\n"

    def opening(self, prompt: str, prefill: str | None) -> Opening:
        if self.reasoning is None:
            return Opening.ANSWERING
        if prefill is not None and prefill.strip():
            is_open = prefill.rfind(self.reasoning.begin) > prefill.rfind(self.reasoning.end)
            return Opening.REASONING if is_open else Opening.ANSWERING
        tail = prompt.rstrip()
        if tail.endswith(self.reasoning.begin.rstrip()):
            return Opening.REASONING
        return Opening.ANSWERING if tail.endswith(self.reasoning.end) else Opening.FRESH

    def read(
        self, characters: Characters, parts: Parts, tools: Tools, opening: Opening
    ) -> Reading[None]:
        yield from _MarkedReading(self, characters, parts, tools).read(opening)

    def lark_text(self, lark: Lark, opening: Opening, form: str) -> str:
        reasoning = self._lark_reasoning(lark, opening)
        return form if reasoning == NOTHING else f"{reasoning} {form}"

    def lark_calls(
        self, lark: Lark, opening: Opening, tools: Sequence[Tool], *, several: bool
    ) -> str:
        calls = self._lark_only_calls(lark, tools, several=several)
        return f"{self._lark_reasoning(lark, opening)} {calls}"

    def lark_any(
        self, lark: Lark, opening: Opening, tools: Sequence[Tool], *, several: bool
    ) -> str:
        begins = [mark for mark in map(_first_mark, self.calls) if mark]
        first = "" if all(map(_first_mark, self.calls)) else r"[^{\[\s]"
        calls = self._lark_only_calls(lark, tools, several=several, behind_text=not first)
        answer = either([lark.text_without(begins, first), calls, NOTHING])
        return f"{self._lark_reasoning(lark, opening)} {answer}"

    def _lark_only_calls(
        self, lark: Lark, tools: Sequence[Tool], *, several: bool, behind_text: bool = False
    ) -> str:
        syntax = self.calls[0]
        bodies = lark.rule(either(lark.rule(syntax.body.lark(tool, lark)) for tool in tools))
        begin, end = syntax.begin + syntax.lead, syntax.trail + syntax.end
        head = lark.literal(syntax.section[0] + begin)
        if behind_text:
            mark = _first_mark(syntax)
            head = (
                f"{lark.text_until(mark)} {lark.literal((syntax.section[0] + begin)[len(mark) :])}"
            )
        if syntax.is_list:
            more = f'(", " {bodies})' + MORE_CALLS if several else ""
            return f'{head} "[" {bodies} {more} "]" {lark.literal(end + syntax.section[1])}'
        more = (
            f"({lark.literal(syntax.between + begin)} {bodies} {lark.literal(end)}){MORE_CALLS}"
            if several
            else ""
        )
        return f"{head} {bodies} {lark.literal(end)} {more} {lark.literal(syntax.section[1])}"

    def _lark_reasoning(self, lark: Lark, opening: Opening) -> str:
        if self.reasoning is None or opening is Opening.ANSWERING:
            return NOTHING
        rest = f"{lark.text_until(self.reasoning.end)} {BLANKS}"
        if opening is Opening.REASONING:
            return rest
        return f"({lark.literal(self.reasoning.begin)} {rest})?"


def _first_mark(call: CallSyntax) -> str:
    """What the first call of an answer begins with."""
    return call.section[0].strip() or call.begin


def _literals(call: CallSyntax) -> list[str]:
    return [call.begin, call.end, *(mark.strip() for mark in call.section), *call.body.marks]


class _MarkedReading:
    """One answer as it is read."""

    def __init__(
        self, form: MarkedFormat, characters: Characters, parts: Parts, tools: Tools
    ) -> None:
        self._characters = characters
        self._parts = parts
        self._tools = tools
        self._reasoning = form.reasoning
        calls = form.calls if tools else ()
        self._bare_call = next((call for call in calls if not call.begin), None)
        self._calls = {call.begin: call for call in calls if call.begin}
        ends = [
            mark.strip() for call in calls for mark in (call.end, *call.section) if mark.strip()
        ]
        self._dropped = frozenset([*form.dropped, *ends])
        self._pen = _Pen(parts)

    def read(self, opening: Opening) -> Reading[None]:
        can_reason = opening is not Opening.ANSWERING
        if opening is Opening.REASONING:
            yield from self._read_reasoning()
        reasoning_marks = [self._reasoning.begin] if self._reasoning else []
        marks = [*reasoning_marks, *self._calls, *self._dropped]
        yield from self._read_bare_call()
        while (
            mark := (yield from self._characters.passing(marks, self._pen.write, self._write_rest))
        ) != END:
            if mark in self._calls:
                can_reason = yield from self._read_calls(self._calls[mark])
            elif mark in self._dropped:
                continue
            elif can_reason and not self._pen.has_written:
                yield from self._read_reasoning()
                yield from self._read_bare_call()
            else:
                self._pen.write(mark)
        self._pen.end()

    def _read_reasoning(self) -> Reading[None]:
        assert self._reasoning is not None
        self._pen.begin_anew()
        thoughts = _Thoughts(self._parts)
        yield from self._characters.passing([self._reasoning.end], thoughts.write)

    def _read_bare_call(self) -> Reading[None]:
        if self._bare_call is None:
            return
        while (following := (yield from self._characters.take())).isspace():
            self._pen.write(following)
        self._characters.put_back(following)
        if following in ("{", "["):
            yield from self._read_calls(self._bare_call)

    def _write_rest(self, text: str) -> None:
        """What may be the beginning of a mark:
        if there would have been more, it is no text.
        """
        marks = [*self._calls, *self._dropped]
        if self._reasoning is not None and not self._pen.has_written:
            marks.append(self._reasoning.begin)
        if not (self._characters.is_cut and any(mark.startswith(text) for mark in marks)):
            self._pen.write(text)

    def _read_calls(self, syntax: CallSyntax) -> Reading[bool]:
        """All calls behind one mark, and whether there was one;
        what is none is text, its mark too.
        """
        characters = self._characters
        characters.record()
        try:
            yield from characters.skip_blanks()
            is_list = yield from characters.skip("[")
            yield from syntax.body.read(characters, self._parts, self._tools)
        except CutShort:
            characters.recorded()
            return False  # a half-written call is no text
        except NotThisForm:
            characters.put_back(characters.recorded())
            self._pen.write(syntax.begin)
            return False
        characters.recorded()
        self._parts.end_call()
        self._pen.begin_anew()
        yield from self._read_further_calls(syntax, is_list=is_list)
        return True

    def _read_further_calls(self, syntax: CallSyntax, *, is_list: bool) -> Reading[None]:
        characters = self._characters
        while True:
            following = yield from characters.skip_blanks()
            if following in (",", ";"):
                yield from characters.take()
                following = yield from characters.skip_blanks()
            if not (following == "{" or (is_list and following not in ("]", END))):
                break
            try:
                yield from syntax.body.read(characters, self._parts, self._tools)
            except NotThisForm:
                break
            self._parts.end_call()
        yield from self._find_end(syntax, is_list=is_list)

    def _find_end(self, syntax: CallSyntax, *, is_list: bool) -> Reading[None]:
        """Skips what a model has written between its call and the mark behind it; if
        there is none, that was text.
        """
        characters = self._characters
        if is_list:
            yield from characters.skip("]")
        if not syntax.end:
            return
        skipped: list[str] = []
        found = yield from characters.passing(
            list(dict.fromkeys([syntax.end, syntax.begin])), skipped.append
        )
        if found == END and not characters.is_cut:
            self._pen.write("".join(skipped))
        elif found == syntax.begin:
            characters.put_back(found)


class _Pen:
    """Writes text; white space at the end is held until something follows it, for
    before a call it is no text.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._held = ""
        self._skips_blanks = False
        self.has_written = False

    def write(self, text: str) -> None:
        if self._skips_blanks:
            text = text.lstrip()
        written = text.rstrip()
        if written:
            self._parts.add_text(self._held + written)
            self._held, self.has_written, self._skips_blanks = "", True, False
        self._held += text[len(written) :]

    def begin_anew(self) -> None:
        """Behind reasoning or a call: what follows is a text of its own."""
        self._held, self.has_written, self._skips_blanks = "", False, True

    def end(self) -> None:
        self._parts.add_text(self._held)


class _Thoughts:
    """Writes reasoning without the white space at both ends."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._held = ""
        self._is_begun = False

    def write(self, text: str) -> None:
        text = text if self._is_begun else text.lstrip()
        written = text.rstrip()
        if written:
            self._parts.add_reasoning(self._held + written)
            self._held, self._is_begun = "", True
        self._held += text[len(written) :]

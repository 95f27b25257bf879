"""Answers written as messages to recipients: OpenAI's harmony, and Functionary's.

Knows no model.

Source: https://github.com/openai/harmony/blob/main/docs/format.md, and the chat
template of Functionary v3.2.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from appliance.text.answer_format import Opening
from appliance.text.answer_parts import Parts
from appliance.text.calls.json_reading import pass_value
from appliance.text.calls.syntax import MAX_NAME_CHARS, MORE_CALLS, CallIds, Tool, Tools
from appliance.text.characters import END, Characters, NotThisForm, Reading
from appliance.text.lark import Lark, either, json_object

Emit = Callable[[str], None]

_START, _CHANNEL, _CONSTRAIN, _MESSAGE = "<|start|>", "<|channel|>", "<|constrain|>", "<|message|>"
_END, _CALL, _RETURN = "<|end|>", "<|call|>", "<|return|>"
_ANALYSIS, _FINAL = f"{_CHANNEL}analysis{_MESSAGE}", f"{_CHANNEL}final{_MESSAGE}"
_NEXT_MESSAGE = f"{_END}{_START}assistant"
_RECIPIENT = re.compile(r"to=(?:functions\.)?([^\s<]+)")
_MAX_HEADER_CHARS = 4 * MAX_NAME_CHARS


class Harmony:
    """`<|channel|>analysis<|message|>...<|end|><|start|>assistant<|channel|>final<|message|>...`,
    as gpt-oss does.

    The channel `analysis` is reasoning, `final` is text, and so is `commentary` unless
    it is to a function.
    """

    marks = (_START, _CHANNEL, _CONSTRAIN, _MESSAGE, _END, _CALL, _RETURN)
    can_reason = True
    is_plain = False
    call_ids = CallIds.ANY
    begin_of_reasoning = _ANALYSIS
    end_of_reasoning = _END

    def forced_end(self, *, may_call: bool) -> str:
        return _NEXT_MESSAGE if may_call else _NEXT_MESSAGE + _FINAL

    def opening(self, prompt: str, prefill: str | None) -> Opening:
        if prefill is not None:
            return Opening.ANSWERING
        return Opening.REASONING if prompt.endswith(_ANALYSIS) else Opening.FRESH

    def read(
        self, characters: Characters, parts: Parts, tools: Tools, opening: Opening
    ) -> Reading[None]:
        emit: Emit = parts.add_reasoning if opening is Opening.REASONING else parts.add_text
        while True:
            mark = yield from characters.passing(self.marks, emit, _unless_cut(characters, emit))
            if mark == END:
                return
            if mark in (_START, _CHANNEL):
                channel, recipient = yield from self._read_header(characters, mark)
                emit = parts.add_reasoning if channel == "analysis" else parts.add_text
                if recipient and tools:
                    yield from self._read_call(characters, parts, recipient)

    @staticmethod
    def _read_header(characters: Characters, mark: str) -> Reading[tuple[str, str]]:
        """To the message: its channel, and the function it is to, if it is."""
        try:
            header, _ = yield from characters.until([_MESSAGE], _MAX_HEADER_CHARS)
        except NotThisForm:
            return "", ""
        _, _, channel = (mark + header).partition(_CHANNEL)
        recipient = _RECIPIENT.search(header)
        name = re.match(r"\s*(\w*)", channel)
        return name[1] if name else "", recipient[1] if recipient else ""

    def _read_call(self, characters: Characters, parts: Parts, name: str) -> Reading[None]:
        ended = yield from _pass_call(characters, parts, name, self.marks)
        characters.put_back(ended)

    def lark_text(self, lark: Lark, opening: Opening, form: str) -> str:
        if opening is Opening.ANSWERING:
            return form
        return f"{self._lark_reasoning(lark, opening)} {lark.literal(_FINAL)} {form}"

    def lark_calls(
        self,
        lark: Lark,
        opening: Opening,
        tools: Sequence[Tool],
        *,
        several: bool,  # noqa: ARG002 - the Protocol's
    ) -> str:
        """Of one call: a message to a function ends the answer."""
        calls = either(lark.rule(_lark_harmony_call(tool, lark)) for tool in tools)
        return f"{self._lark_reasoning(lark, opening)} {calls}"

    def lark_any(
        self, lark: Lark, opening: Opening, tools: Sequence[Tool], *, several: bool
    ) -> str:
        text = self.lark_text(lark, opening, lark.text_without(self.marks))
        return either([text, self.lark_calls(lark, opening, tools, several=several)])

    def _lark_reasoning(self, lark: Lark, opening: Opening) -> str:
        rest = lark.text_until(_NEXT_MESSAGE, self.marks)
        return rest if opening is Opening.REASONING else f"({lark.literal(_ANALYSIS)} {rest})?"


def _lark_harmony_call(tool: Tool, lark: Lark) -> str:
    head = f"{_CHANNEL}commentary to=functions.{tool.name} {_CONSTRAIN}json{_MESSAGE}"
    return f"{lark.literal(head)} {json_object(tool.parameters)}"


_TO = ">>>"
_ALL = "all"


class Recipients:
    """`>>>all` and a line break before text, `>>>NAME` and a line break before a call's
    arguments, as Functionary does.

    The prompt ends with the first `>>>`.
    """

    marks = (_TO,)
    can_reason = False
    is_plain = False
    call_ids = CallIds.ANY
    begin_of_reasoning = end_of_reasoning = ""

    def forced_end(self, *, may_call: bool) -> str:  # noqa: ARG002 - the Protocol's
        return ""

    def opening(self, prompt: str, prefill: str | None) -> Opening:
        return Opening.FRESH if prefill is None and prompt.endswith(_TO) else Opening.ANSWERING

    def read(
        self, characters: Characters, parts: Parts, tools: Tools, opening: Opening
    ) -> Reading[None]:
        is_header = opening is Opening.FRESH
        while True:
            if is_header:
                yield from self._read_message(characters, parts, tools)
            elif (
                yield from characters.passing(
                    [_TO], parts.add_text, _unless_cut(characters, parts.add_text)
                )
            ) == END:
                return
            is_header = not is_header

    @staticmethod
    def _read_message(characters: Characters, parts: Parts, tools: Tools) -> Reading[None]:
        """To its end where it is a call; of text only the header."""
        characters.record()
        try:
            header, _ = yield from characters.until(["\n"], MAX_NAME_CHARS)
        except NotThisForm:
            written = characters.recorded()
            parts.add_text(written if not tools else "")
            return
        characters.recorded()
        name = header.strip()
        if name == _ALL:
            return
        if name not in tools:
            parts.add_text(f"{_TO}{header}\n")
            return
        characters.put_back((yield from _pass_call(characters, parts, name, [_TO])))

    def lark_text(self, lark: Lark, opening: Opening, form: str) -> str:
        return f"{lark.literal(_ALL + chr(10))} {form}" if opening is Opening.FRESH else form

    def lark_calls(
        self, lark: Lark, opening: Opening, tools: Sequence[Tool], *, several: bool
    ) -> str:
        first = "" if opening is Opening.FRESH else _TO
        call = either(
            f"{lark.literal(tool.name + chr(10))} {json_object(tool.parameters)}" for tool in tools
        )
        more = f"({lark.literal(_TO)} {call}){MORE_CALLS}" if several else ""
        return f"{lark.literal(first)} {call} {more}"

    def lark_any(
        self, lark: Lark, opening: Opening, tools: Sequence[Tool], *, several: bool
    ) -> str:
        text = self.lark_text(lark, opening, lark.text_without(self.marks))
        text_and_mark = self.lark_text(lark, opening, lark.text_until(_TO))
        calls = self.lark_calls(lark, Opening.FRESH, tools, several=several)
        return either(
            [
                text,
                f"{text_and_mark} {calls}",
                self.lark_calls(lark, opening, tools, several=several),
            ]
        )


def _pass_call(
    characters: Characters, parts: Parts, name: str, marks: Sequence[str]
) -> Reading[str]:
    """Arguments, which are whatever comes before the first of `marks` if they are no
    JSON; returns that mark.
    """
    parts.begin_call(name)
    emit: Emit = parts.add_arguments
    if (yield from characters.skip_blanks()) == "{":
        yield from pass_value(characters, parts.add_arguments)
        emit = _ignore
    mark = yield from characters.passing(marks, emit, _unless_cut(characters, emit))
    parts.end_call()
    return mark


def _ignore(text: str) -> None:
    """White space, or a bracket too many."""


def _unless_cut(characters: Characters, emit: Emit) -> Emit:
    """For the beginning of a mark at the end of an answer: if there would have been
    more, it is no text.
    """
    return lambda text: None if characters.is_cut else emit(text)

"""Every way of writing answers, in every way that it can be cut into pieces."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.text.answer_formats import format_of
from appliance.text.answer_parser import AnswerParser
from appliance.text.answer_parts import CallArguments, CallBegun, Part, Reasoning, Text, joined
from appliance.text.detokenizer import Detokenizer
from tests.text.written_answers import TOOLS, WRITTEN, Written

FORMS = {written.evidence: written for written in WRITTEN}
each_way = pytest.mark.parametrize("written", WRITTEN, ids=lambda written: written.name)


def parser_of(written: Written) -> AnswerParser:
    return AnswerParser(format_of(written.evidence), TOOLS, written.opening)


def parse(written: Written, pieces: list[str], *, is_cut: bool = False) -> list[Part]:
    parser = parser_of(written)
    parts = [part for piece in pieces for part in parser.feed(piece)]
    return joined([*parts, *parser.finish(is_cut=is_cut)])


@each_way
def test_at_once(written: Written) -> None:
    assert parse(written, [written.answer]) == written.parts


@each_way
def test_byte_by_byte(written: Written) -> None:
    detokenizer = Detokenizer()
    data = written.answer.encode()
    assert (
        parse(written, [detokenizer.feed(data[at : at + 1]) for at in range(len(data))])
        == written.parts
    )


@each_way
def test_at_every_split(written: Written) -> None:
    answer = written.answer
    for at in range(len(answer) + 1):
        assert parse(written, [answer[:at], answer[at:]]) == written.parts, (
            answer[:at],
            answer[at:],
        )


@each_way
def test_an_answer_cut_short_has_no_half_call_as_text_and_takes_nothing_back(
    written: Written,
) -> None:
    whole = "".join(part.text for part in written.parts if isinstance(part, Text))
    for at in range(len(written.answer)):
        parts = parse(written, [written.answer[:at]], is_cut=True)
        text = "".join(part.text for part in parts if isinstance(part, Text))
        assert whole.startswith((text, text.rstrip())), (written.answer[:at], text)
        begun = [part for part in parts if isinstance(part, CallBegun)]
        assert (
            begun == [part for part in written.parts if isinstance(part, CallBegun)][: len(begun)]
        )


@each_way
def test_arguments_come_as_they_are_written(written: Written) -> None:
    """Once a call's name is known, no character of JSON waits for the call's end."""
    parser = parser_of(written)
    num_pieces = sum(
        isinstance(part, CallArguments)
        for character in written.answer
        for part in parser.feed(character)
    )
    num_arguments = sum(
        isinstance(part, CallArguments) and part.text != "{}" for part in written.parts
    )
    assert num_pieces >= 2 * num_arguments or "sloppy" in written.name


def test_without_tools_calls_are_text_and_reasoning_is_none() -> None:
    answer = '<think>Hm</think><tool_call>{"name": "x"}</tool_call>'
    parser = AnswerParser(format_of("<tool_call> </think>"), {}, WRITTEN[1].opening)
    assert joined([*parser.feed(answer), *parser.finish(is_cut=False)]) == [
        Reasoning("Hm"),
        Text('<tool_call>{"name": "x"}</tool_call>'),
    ]


@pytest.mark.parametrize(
    "bracket", ["{", "[", '{"function": ', "{a:[", "(", '{"arguments": [', '<|"|>', "<think>"]
)
@pytest.mark.parametrize("written", FORMS.values(), ids=lambda written: written.name)
def test_however_deep_it_is(written: Written, bracket: str) -> None:
    answer = written.answer[: len(written.answer) // 2] + bracket * 2000
    assert parse(written, [answer]) is not None
    for mark in format_of(written.evidence).marks:
        parse(written, [mark + "call:f" + bracket * 1200])


@given(written=st.sampled_from(WRITTEN), data=st.data())
@settings(max_examples=300, deadline=None)
def test_no_text_breaks_a_parser_and_cutting_it_changes_nothing(
    written: Written, data: st.DataObject
) -> None:
    marks = [
        *format_of(written.evidence).marks,
        written.answer,
        *TOOLS,
        "{",
        "}",
        "[",
        "]",
        '"',
        ":",
        ",",
        "=",
        "(",
        ")",
    ]
    answer = "".join(
        data.draw(st.lists(st.one_of(st.sampled_from(marks), st.text(max_size=4)), max_size=12))
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, len(answer)), max_size=6)))
    pieces = [
        answer[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(answer)], strict=True)
    ]
    assert parse(written, pieces) == parse(written, [answer])

"""Where lines end an answer:
at every way to cut the text in two, and at every moment.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.text.answer import Answer
from appliance.text.answer_parts import Part, Text
from appliance.text.line_limits import LineLimits


def said(parts: list[Part]) -> str:
    return "".join(part.text for part in parts if isinstance(part, Text))


def through(answer: Answer, pieces: list[str]) -> str:
    text = ""
    for piece in pieces:
        text += said(answer.feed(piece.encode()))
        if answer.stopped:
            return text
    return text + said(answer.flush())


def limits(min_indent: int) -> LineLimits:
    return LineLimits(min_indent, None, lambda: 0.0)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("x = 1\n    y = 2\n", "x = 1\n    y = 2\n"),
        ("x = 1\n    y = 2\ndef g():", "x = 1\n    y = 2\n"),
        ("x = 1\n  y = 2\n", "x = 1\n"),
        ("x = 1\n\t\t\t\ty\n", "x = 1\n\t\t\t\ty\n"),
        ("x = 1\n\n    y", "x = 1\n"),  # an empty line has no indentation, as in llama.cpp
        ("x = 1\n      ", "x = 1\n      "),
        ("no line ends", "no line ends"),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_a_line_indented_too_little_ends_it(text: str, kept: str, size: int) -> None:
    answer = Answer([], None, limits(4))
    assert through(answer, [text[at : at + size] for at in range(0, len(text), size)]) == kept
    assert answer.is_cut == (kept != text)


@given(st.text(" \tab\n", max_size=40), st.integers(0, 3), st.lists(st.integers(1, 5), min_size=1))
def test_the_same_is_kept_however_the_text_comes(
    text: str, min_indent: int, sizes: list[int]
) -> None:
    pieces, at, index = [], 0, 0
    while at < len(text):
        pieces.append(text[at : at + sizes[index % len(sizes)]])
        at, index = at + len(pieces[-1]), index + 1
    kept = through(Answer(["b\na"], None, limits(min_indent)), pieces)
    assert kept == through(Answer(["b\na"], None, limits(min_indent)), [text] if text else [])
    assert text.startswith(kept)
    assert all(
        len(line) - len(line.lstrip(" \t")) >= min_indent
        for line in kept.split("\n")[1:]
        if line.strip(" \t")
    )


def test_what_may_begin_a_stop_string_belongs_to_a_cut_answer() -> None:
    answer = Answer(["\n\n\n"], None, limits(2))
    assert (through(answer, ["a\n", "b"]), answer.is_cut, answer.stop_string) == ("a\n", True, "")


def test_a_stop_string_in_front_of_the_cut_ends_it() -> None:
    answer = Answer(["END"], None, limits(2))
    assert (through(answer, ["a END\nb"]), answer.is_cut, answer.stop_string) == (
        "a ",
        False,
        "END",
    )


def test_once_its_time_is_over_it_ends_with_the_line() -> None:
    now = 0.0
    answer = Answer([], None, LineLimits(0, 1.0, lambda: now))
    assert said(answer.feed(b"a\n")) == "a\n"
    now = 1.5
    assert said(answer.feed(b"long line")) == "long line"
    assert not answer.stopped
    assert said(answer.feed(b" ends\nmore")) == " ends\n"
    assert answer.is_cut

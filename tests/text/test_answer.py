"""From token bytes to text:
whole characters only, and never a part of a stop string.
"""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.text.answer import Answer
from appliance.text.answer_parts import Part, Text
from appliance.text.detokenizer import Detokenizer
from appliance.text.stop_strings import StopStrings


def text_of(parts: list[Part]) -> str:
    return "".join(part.text for part in parts if isinstance(part, Text))


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@given(st.text(), st.lists(st.integers(0, 1000)))
def test_text_arrives_whole_however_its_bytes_are_split(text: str, cuts: list[int]) -> None:
    detokenizer = Detokenizer()
    pieces = [detokenizer.feed(piece) for piece in split(text.encode(), cuts)]
    assert "".join(pieces) + detokenizer.flush() == text
    assert "\ufffd" not in "".join(pieces) or "\ufffd" in text


def test_half_a_character_is_held_back_and_shown_as_unknown_only_at_the_end() -> None:
    detokenizer = Detokenizer()
    assert detokenizer.feed("é".encode()[:1]) == ""
    assert detokenizer.feed("é".encode()[1:]) == "é"
    assert detokenizer.feed("漢".encode()[:2]) == ""
    assert detokenizer.flush() == "\ufffd"


def test_a_stop_string_over_several_pieces_never_leaks() -> None:
    stop = StopStrings(["\n\nUser:"])
    emitted = [stop.feed(text) for text in ("Hello", "\n", "\nUs", "er", ": more")]
    assert emitted == ["Hello", "", "", "", ""]
    assert stop.found
    assert stop.flush() == ""


def test_text_ends_no_answer_that_is_too_short() -> None:
    answer = Answer(["stop"], min_pieces=3)
    pieces = [b"stop", b"s", b"to", b"p st", b"op!"]
    assert [text_of(answer.feed(piece)) for piece in pieces] == ["stop", "s", "to", "p ", ""]
    assert (answer.stopped, answer.stop_string) == (True, "stop")


def test_what_only_looked_like_a_stop_string_comes_out() -> None:
    stop = StopStrings(["STOP"])
    assert [stop.feed("a ST"), stop.feed("ST"), stop.feed("ART")] == ["a ", "ST", "START"]
    assert stop.feed(" S") + stop.flush() == " S"


@given(
    st.text("ab\n", max_size=30),
    st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3),
    st.lists(st.integers()),
)
def test_any_split_gives_the_text_before_the_stop_string_that_is_complete_first(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    answer = Answer(stops)
    emitted = ""
    for piece in split(text.encode(), cuts):
        emitted += text_of(answer.feed(piece))
        if answer.stopped:
            break
    emitted += text_of(answer.flush())
    assert answer.stopped == any(stop in text for stop in stops)
    assert text.startswith(emitted)
    assert not any(stop in emitted for stop in stops)
    if not answer.stopped:
        assert emitted == text


@pytest.mark.parametrize(("stop", "rest"), [([], "\ufffd"), (["\ufffd"], "")])
def test_the_end_of_an_answer_may_itself_complete_a_stop_string(stop: list[str], rest: str) -> None:
    answer = Answer(stop)
    assert answer.feed(b"\xe6\xbc") == []
    assert text_of(answer.flush()) == rest

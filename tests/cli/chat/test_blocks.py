"""Where growing Markdown is cut, and what of it may reach a terminal."""

from __future__ import annotations

import pytest

from appliance.cli.chat.blocks import end_of, finished_length, printable


@pytest.mark.parametrize(
    ("whole", "growing"),
    [
        ("", "one line"),
        ("", "one line\n\n"),  # a list's next item may be indented
        ("a\n\n", "b"),
        ("a\n\nb\n\n", "c\nd\n"),
        ("", "- a\n\n  still a"),
        ("", "```\na\n\nb\n"),
        ("```\na\n\nb\n```\n\n", "c"),
        ("", "````\n```\n\nb\n"),  # a shorter fence is code
        ("", "~~~\n```\n\nb\n"),
        ("", "```\n``` not its end\n\nb\n"),
        ("``` a ` b\n\n", "c"),  # no fence: it is code within a line
    ],
)
def test_blocks_are_finished_when_the_next_one_begins(whole: str, growing: str) -> None:
    assert finished_length(whole + growing) == len(whole)


def test_however_it_is_cut_into_pieces_nothing_is_lost() -> None:
    text = "# T\n\n- a\n\n  b\n\n```py\nx = 1\n\n\ny = 2\n```\n\nend\n"
    blocks, growing = [], ""
    for character in text:
        growing += character
        if at := finished_length(growing):
            blocks.append(growing[:at])
            growing = growing[at:]
    assert [*blocks, growing] == [
        "# T\n\n",
        "- a\n\n  b\n\n",
        "```py\nx = 1\n\n\ny = 2\n```\n\n",
        "end\n",
    ]


def test_the_end_of_code_is_code() -> None:
    assert end_of("```py\n1\n2\n3\n", 2) == "```py\n2\n3\n"
    assert end_of("1\n2\n3\n", 2) == "2\n3\n"
    assert end_of("1\n2\n", 2) == "1\n2\n"


def test_what_terminals_obey_is_left_out() -> None:
    assert printable("a\tb\r\nc\x1b[2J\x07\x9b1A\x7f é") == "a\tb\nc[2J1A é"

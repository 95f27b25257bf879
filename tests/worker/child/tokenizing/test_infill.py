"""The order of marks and texts around a gap, with a vocabulary of characters."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from appliance.errors import BadRequest
from appliance.protocol.requests import InfillPrompt, SourceFile
from appliance.worker.child.tokenizing.infill import infill_tokens

PRE, SUF, MID, REP, SEP = 1001, 1002, 1003, 1004, 1005
MARKS = {"pre": PRE, "suf": SUF, "mid": MID}
FILES = [SourceFile("a.py", "x"), SourceFile("b.py", "y")]


class Characters:
    def __init__(self, fim_tokens: Mapping[str, int]) -> None:
        self.fim_tokens = fim_tokens

    def tokenize(self, text: str, *, parse_special: bool) -> list[int]:
        assert not parse_special, "marks written by others stay plain text"
        return list(text.encode())


def tokens(prompt: InfillPrompt, marks: Mapping[str, int] = MARKS) -> list[int | str]:
    """Runs of characters as texts again."""
    read: list[int | str] = []
    for token in infill_tokens(Characters(marks), prompt):
        if token > 1000:
            read.append(token)
        elif read and isinstance(read[-1], str):
            read[-1] += chr(token)
        else:
            read.append(chr(token))
    return read


def test_the_suffix_stands_behind_the_prefix_and_the_begun_answer_last() -> None:
    assert tokens(InfillPrompt(prefix="ab", suffix="yz")) == [PRE, "ab", SUF, "yz", MID]
    assert tokens(InfillPrompt(prefix="ab", suffix="yz", prefill="c")) == [
        PRE,
        "ab",
        SUF,
        "yz",
        MID,
        "c",
    ]
    assert tokens(InfillPrompt(prefix="", suffix="")) == [PRE, SUF, MID]


def test_the_suffix_comes_first_for_models_that_want_it_so() -> None:
    assert tokens(InfillPrompt(prefix="ab", suffix="yz", prefill="c", is_suffix_first=True)) == [
        SUF,
        "yz",
        PRE,
        "ab",
        MID,
        "c",
    ]


def test_other_files_are_marked_as_the_vocabulary_can() -> None:
    gap = [PRE, "ab", SUF, "yz", MID]
    prompt = InfillPrompt(prefix="ab", suffix="yz", files=FILES)
    everything = {**MARKS, "rep": REP, "sep": SEP}
    assert tokens(prompt, everything) == [
        REP, "myproject\n", SEP, "a.py\nx", SEP, "b.py\ny", SEP, "filename\n", *gap
    ]  # fmt: skip
    assert tokens(prompt, {**MARKS, "sep": SEP}) == [
        SEP,
        "a.py\nx",
        SEP,
        "b.py\ny",
        SEP,
        "filename\n",
        *gap,
    ]
    assert tokens(prompt) == ["\n\n--- snippet ---\n\nx\n\n--- snippet ---\n\ny", *gap]
    assert tokens(InfillPrompt(prefix="ab", suffix="yz"), everything) == gap, (
        "nothing is said of a project without other files"
    )


@pytest.mark.parametrize("missing", ["pre", "suf", "mid"])
def test_a_model_without_the_marks_says_so_and_the_way_out(missing: str) -> None:
    marks = {name: token for name, token in MARKS.items() if name != missing}
    with pytest.raises(BadRequest, match="not trained to fill in the middle") as refused:
        tokens(InfillPrompt(prefix="ab", suffix="yz", param="suffix"), marks)
    assert refused.value.param == "suffix"

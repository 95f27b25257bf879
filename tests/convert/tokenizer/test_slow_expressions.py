"""An expression that nobody here knows is tried where it may be slow."""

from __future__ import annotations

from typing import Any

import pytest

from convert.errors import DamagedCheckpoint
from convert.tokenizer import pretokenizer
from convert.tokenizer.pretokenizer import GPT2, find_pretokenizer


def section(expression: str) -> dict[str, Any]:
    split = {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated"}
    letters = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
    return {
        "type": "Sequence",
        "pretokenizers": [{**split, "invert": False}, {**letters, "trim_offsets": False}],
    }


def test_another_spelling_is_known_by_what_it_does() -> None:
    assert find_pretokenizer(section(f"(?:{GPT2})"), ignores_merges=False).name == "gpt-2"


def test_one_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretokenizer, "SPLIT_CPU_S", 1)
    with pytest.raises(DamagedCheckpoint, match="did not split a few short texts in 1 seconds"):
        find_pretokenizer(section(r".*?.*?.*?.*?[^\s\S]"), ignores_merges=False)


def test_one_that_the_library_itself_gives_up() -> None:
    with pytest.raises(DamagedCheckpoint, match=r"cannot be used: .*retry-limit"):
        find_pretokenizer(section(r"(\w|\w\w|\w+)+[^\s\S]"), ignores_merges=False)


def test_one_that_is_none_is_named() -> None:
    with pytest.raises(DamagedCheckpoint, match="pre_tokenizer that cannot be read"):
        find_pretokenizer(section("(["), ignores_merges=False)

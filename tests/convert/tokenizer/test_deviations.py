"""What llama.cpp leaves out of a byte-level tokenizer is told, and the rest compared."""

from __future__ import annotations

import json
import re
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from convert.errors import UnsupportedModel
from convert.tokenizer.deviation import Deviation, comparable
from convert.tokenizer.sample_texts import SAMPLE_TEXTS
from tests.convert.checkpoints import byte_tokenizer
from tests.convert.tokenizer.vocabulary_files import verified

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True}


@pytest.mark.parametrize(
    ("changes", "deviations"),
    [
        ({"pre_tokenizer": BYTE_LEVEL}, {Deviation.LEADING_SPACE}),
        (
            {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [BYTE_LEVEL]}},
            {Deviation.LEADING_SPACE},
        ),
        ({"normalizer": {"type": "NFKC"}}, {Deviation.NO_COMPATIBILITY}),
        (
            {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}]}},
            {Deviation.NO_COMPOSITION},
        ),
    ],
)
def test_byte_level_tokenizers(
    changes: dict[str, Any], deviations: set[Deviation], tmp_path: Path
) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps({**byte_tokenizer(), **changes}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|end|>"}))
    vocabulary = verified(tmp_path, 260)
    assert vocabulary.deviations == deviations
    assert list(vocabulary.notes) == [f"{deviation.value}." for deviation in deviations]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"normalizer": {"type": "NFD"}}, "normalizes text"),
        (  # a space before each digit
            {
                "pre_tokenizer": {
                    "type": "Sequence",
                    "pretokenizers": [{"type": "Digits", "individual_digits": True}, BYTE_LEVEL],
                }
            },
            "into ..ĠThe",
        ),
    ],
)
def test_what_changes_ordinary_texts_is_refused(
    changes: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps({**byte_tokenizer(), **changes}))
    with pytest.raises(UnsupportedModel, match=reason):
        verified(tmp_path, 260)


def test_gpt_2s_older_files_may_ask_for_a_space_too(tmp_path: Path) -> None:
    model = byte_tokenizer()["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]), encoding="utf-8")
    (tmp_path / "merges.txt").write_text("h e\n", encoding="utf-8")
    config = {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": True, "eos_token": "<|end|>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    vocabulary = verified(tmp_path, 260)
    assert vocabulary.notes == (f"{Deviation.LEADING_SPACE.value}.",)


@pytest.mark.parametrize(
    ("deviation", "text", "compared"),
    [
        (Deviation.INNER_CAPITALS, "ALL camelCase (aB) Ab x", "ALL   Ab x"),
        (Deviation.LEADING_BOM, "\ufeffa\ufeff", "a\ufeff"),
        (Deviation.ONLY_SPACES, "  ", ""),
        (Deviation.ONLY_SPACES, "  a", "  a"),
        (Deviation.LEADING_SPACE, "a", " a"),
        (Deviation.NO_COMPATIBILITY, "ﬁ²", "fi2"),
    ],
)
def test_what_is_compared(deviation: Deviation, text: str, compared: str) -> None:
    assert comparable(text, {deviation}) == compared


def test_the_sample_has_more_than_thirty_scripts() -> None:
    """By the first words of characters' names, which for letters are their scripts."""
    letters = {char for text in SAMPLE_TEXTS for char in text if char.isalpha()}
    names = {re.split(r"[ -]", unicodedata.name(char))[0] for char in letters}
    assert len(names - {"FULLWIDTH", "MODIFIER", "MASCULINE", "FEMININE"}) == 37

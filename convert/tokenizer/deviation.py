"""Where llama.cpp's tokenizers are known to differ from a checkpoint's.

Knows no tokenizer's algorithm.

A conversion cannot mend a deviation: it is reported to the user, and the words that it
concerns are not compared.
"""

from __future__ import annotations

import enum
import re
import unicodedata
from collections.abc import Collection


class Deviation(enum.Enum):
    """The value is what the user reads."""

    NO_COMPOSITION = (
        "llama.cpp does not normalize text (NFC) as this tokenizer does: decomposed text, such "
        "as 'e' with a separate accent, gives other tokens than 'é'"
    )
    SPACE_AFTER_SPECIAL = (
        "llama.cpp puts a space before text that follows a special token; this tokenizer does so "
        "only at the beginning of a text"
    )
    DOUBLED_SPACE = (
        "llama.cpp puts a space before text even if it already begins with one; this tokenizer "
        "leaves such text as it is"
    )
    NO_REWRITING = (
        "llama.cpp does not rewrite text (runs of spaces, compatibility characters) as this "
        "SentencePiece model does"
    )
    CASE_AND_MARKS = (
        "llama.cpp follows this pre-tokenizer only for ASCII letters: words of mixed case "
        "outside ASCII, and letters with separate marks (Devanagari, Thai, ...), may be split "
        "differently"
    )
    ACCENTS_AS_MARKS = (
        "where this tokenizer strips only accents, llama.cpp also strips the vowel signs of "
        "Indic scripts and all but the first letter of each Korean syllable"
    )
    LONG_WORDS = (
        "llama.cpp splits words of any length; this tokenizer treats a word that is too long for "
        "it (usually over 100 characters) as unknown"
    )

    def concerns(self, char: str) -> bool:
        """Whether a word with this character may come out differently."""
        category = unicodedata.category(char)
        match self:
            case Deviation.CASE_AND_MARKS:
                return category.startswith("M") or (
                    not char.isascii() and category in ("Lu", "Ll", "Lt", "Lm")
                )
            case Deviation.ACCENTS_AS_MARKS:
                return category in ("Mc", "Me") or "\uac00" <= char <= "\ud7a3"
            case _:
                return False


def comparable(text: str, deviations: Collection[Deviation]) -> str:
    """`text` without the words that a deviation concerns, and composed where composing
    would be the difference.
    """
    if Deviation.NO_COMPOSITION in deviations:
        text = unicodedata.normalize("NFC", text)
    if Deviation.DOUBLED_SPACE in deviations:
        text = text.lstrip(" ")
    parts = re.split(r"(\s+)", text)
    return "".join(
        part for part in parts if not any(d.concerns(char) for d in deviations for char in part)
    )

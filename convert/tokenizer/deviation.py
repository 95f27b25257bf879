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

# a capital letter behind a small one, where ASCII letters are all that is compared
_INNER_CAPITAL = re.compile(r"[^\W\d_A-Z][A-Z]")


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
    LEADING_BOM = "llama.cpp drops a byte order mark (U+FEFF) that a text begins with"
    ONLY_SPACES = "llama.cpp puts no space before a text of spaces alone; this tokenizer does"
    LEADING_SPACE = (
        "this tokenizer puts a space before every text, and after special tokens; llama.cpp does "
        "not: begin texts with one yourself"
    )
    NO_COMPATIBILITY = (
        "llama.cpp does not normalize text (NFKC) as this tokenizer does: compatibility "
        "characters, such as 'ﬁ' or '²', give other tokens than what they stand for"
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
    INNER_CAPITALS = (
        "llama.cpp splits no word before a capital letter inside it (camelCase), as this "
        "tokenizer does"
    )
    ACCENTS_AS_MARKS = (
        "where this tokenizer strips only accents, llama.cpp also strips the vowel signs of "
        "Indic scripts and all but the first letter of each Korean syllable"
    )
    LONG_WORDS = (
        "llama.cpp splits words of any length; this tokenizer treats a word that is too long for "
        "it (usually over 100 characters) as unknown"
    )

    def concerns_word(self, word: str) -> bool:
        """Whether a word, with whatever stands beside it, may come out differently."""
        if self is Deviation.INNER_CAPITALS:
            return _INNER_CAPITAL.search(word) is not None
        return any(self.concerns(char) for char in word)

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
    if Deviation.LEADING_BOM in deviations:
        text = text.lstrip("\ufeff")
    if Deviation.NO_COMPATIBILITY in deviations:
        text = unicodedata.normalize("NFKC", text)
    if Deviation.LEADING_SPACE in deviations and not text.startswith(" "):
        text = f" {text}"
    if Deviation.ONLY_SPACES in deviations and not text.strip(" "):
        return ""
    if Deviation.DOUBLED_SPACE in deviations:
        text = text.lstrip(" ")
    parts = re.split(r"(\s+)", text)
    return "".join(
        part for part in parts if not any(deviation.concerns_word(part) for deviation in deviations)
    )

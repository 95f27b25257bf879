"""The texts of `ranks.json`."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from convert.tokenizer.tiktoken.classes import CLASSES

NUM_RANKS = 1200
# whole words that no merges make: put in by hand, as some vocabularies have them
BY_HAND = (b"123", b"guillemets", " Καλημέρα".encode())


def texts(name: str, sample: Sequence[str]) -> list[str]:
    """The sample as the class `name` gives it to tiktoken, and a text with special tokens."""
    special = list(CLASSES[name].special(NUM_RANKS).values())
    found = [*sample, f"one {special[0]}two{special[-1]} three"]
    if CLASSES[name].composes:
        return [unicodedata.normalize("NFC", text) for text in found]
    return found

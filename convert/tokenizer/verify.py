"""Compares what a GGUF makes of texts
with what its checkpoint's tokenizer makes of them.

Knows no weights.

Both sides run in children (`native/verify_child`): native code may end them, and their
memory is not ours.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert.child import ChildDied, Refused, ask
from convert.errors import VerificationFailed
from convert.tokenizer.deviation import Deviation, comparable
from convert.tokenizer.sample_texts import SAMPLE_TEXTS
from convert.tokenizer.vocab import Vocabulary

_SHOWN_IDS = 12  # of each list, around the first difference


@dataclass(frozen=True)
class Difference:
    """A text that the two tokenize differently."""

    text: str
    expected: list[int]
    actual: list[int]

    def describe(self, vocabulary: Vocabulary) -> str:
        pairs = zip(self.expected, self.actual, strict=False)
        shortest = min(len(self.expected), len(self.actual))
        at = next((i for i, (a, b) in enumerate(pairs) if a != b), shortest)
        start = max(0, at - _SHOWN_IDS // 2)
        return (
            f"for the text {self.text!r}, the checkpoint's tokenizer gives "
            f"{_show(self.expected, start, vocabulary)} and llama.cpp gives "
            f"{_show(self.actual, start, vocabulary)}; they differ from token {at} on."
        )


def verify_vocabulary(vocabulary: Vocabulary, path: Path) -> None:
    """Tokenizes the sample and every added token with the checkpoint's tokenizer and
    with the GGUF at `path`, which needs no tensors.

    Raises `VerificationFailed` for the first text that comes out differently, or a file
    that llama.cpp does not load.
    """
    sample = [comparable(text, vocabulary.deviations) for text in SAMPLE_TEXTS]
    texts = [*sample, *_texts_with_added_tokens(vocabulary)]
    reference = _ask({"reference": json.dumps(vocabulary.reference), "texts": texts})
    name = str(path.resolve())
    answer = _ask({"gguf": {name: texts}})[name]
    difference = _first_difference(vocabulary, texts, reference, answer)
    if difference is not None:
        raise VerificationFailed(
            "The new files do not tokenize text as the checkpoint does: "
            f"{difference.describe(vocabulary)} No file was kept. --no-verify keeps them, "
            "but the model then reads some texts as other tokens than it was trained on."
        )


def _texts_with_added_tokens(vocabulary: Vocabulary) -> Iterator[str]:
    misplaced = {token.id for token in vocabulary.misplaced}
    for token in vocabulary.added:
        # without the spaces that one side drops, and apart from any word where one looks
        # for that
        stop = "," if token.single_word else ""
        if Deviation.LEADING_SPACE in vocabulary.deviations:
            after = "" if token.id in misplaced else f" two{token.text} three"
            yield f" one{stop}{token.text}{after}"
        elif token.id in misplaced and Deviation.SPACE_AFTER_SPECIAL in vocabulary.deviations:
            yield f"one{stop}{token.text}"
        elif token.id in misplaced:
            yield f"one{stop}{token.text}{stop}two"
        elif Deviation.SPACE_AFTER_SPECIAL in vocabulary.deviations:
            yield f"one {token.text}{token.text}"
        elif Deviation.DOUBLED_SPACE in vocabulary.deviations:
            yield f"one {token.text}two{token.text}three"
        else:
            yield f"one {token.text} two{token.text}three"


def _first_difference(
    vocabulary: Vocabulary, texts: list[str], reference: list[Any], answer: list[Any]
) -> Difference | None:
    special = vocabulary.special
    answered = zip(texts, reference, answer, strict=True)
    for text, (plain, with_template), (gguf_plain, gguf_special) in answered:
        if plain != gguf_plain:
            return Difference(text, plain, gguf_plain)
        expected = with_template if special.by_template else special.around(plain)
        if expected != gguf_special:
            return Difference(text, expected, gguf_special)
    return None


def _show(ids: list[int], start: int, vocabulary: Vocabulary) -> str:
    shown = ", ".join(
        f"{token_id} {vocabulary.tokens[token_id].text!r}"
        if token_id < len(vocabulary.tokens)
        else str(token_id)
        for token_id in ids[start : start + _SHOWN_IDS]
    )
    prefix, suffix = "... " if start else "", " ..." if start + _SHOWN_IDS < len(ids) else ""
    return f"[{prefix}{shown}{suffix}]"


def _ask(request: dict[str, Any]) -> Any:
    """The child's answer.

    Raises `VerificationFailed` if a tokenizer refused or llama.cpp died, else
    `ConvertError`.
    """
    try:
        return ask("convert.native.verify_child", request)
    except Refused as refused:
        raise VerificationFailed(str(refused)) from refused
    except ChildDied as died:
        raise VerificationFailed(f"The new file cannot be read: {died}") from died

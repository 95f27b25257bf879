"""What each of a text's tokens brings to it: tokenizing, backwards.

Some vocabularies put a space in front of a text, and behind each special token in it;
that is no part of the text.

Knows no llama.cpp: it is handed a vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class PieceVocabulary(Protocol):
    """What of a loaded model it takes; implemented by `appliance.llama.model.Model`."""

    @property
    def adds_space_prefix(self) -> bool:
        """Whether there is a space in front of a text's own."""

    @property
    def prefixes_blanks(self) -> bool:
        """Whether that is so also where a text is nothing but spaces."""

    def begins_text(self, token: int) -> bool:
        """Whether what follows `token` is tokenized as a text of its own."""

    def piece(self, token: int) -> bytes: ...

    def written(self, token: int) -> bytes:
        """As `piece`, and of a special token its name."""


def text_pieces(
    vocabulary: PieceVocabulary, tokens: Sequence[int], *, shows_special: bool
) -> list[bytes]:
    """Joined, they are the text that `tokens` were made of.

    Special tokens have their names, or nothing if not `shows_special`.
    """
    pieces = [(vocabulary.written if shows_special else vocabulary.piece)(t) for t in tokens]
    if not vocabulary.adds_space_prefix:
        return pieces
    first = 0
    for at, token in enumerate(tokens):
        if vocabulary.begins_text(token):
            _drop_space(pieces, first, at, even_if_blank=vocabulary.prefixes_blanks)
            first = at + 1
    _drop_space(pieces, first, len(pieces), even_if_blank=vocabulary.prefixes_blanks)
    return pieces


def _drop_space(pieces: list[bytes], first: int, end: int, *, even_if_blank: bool) -> None:
    """The one in front of the text from `first` to `end`."""
    at = next((at for at in range(first, end) if pieces[at]), end)
    if at == end or not pieces[at].startswith(b" "):
        return
    if even_if_blank or any(piece.strip(b" ") for piece in pieces[at:end]):
        pieces[at] = pieces[at][1:]

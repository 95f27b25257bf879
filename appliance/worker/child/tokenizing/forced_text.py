"""Tokenizes text from the middle of an answer: exactly its bytes, and nothing in front of
them.

Tokenizers are made for whole texts. SentencePiece and Unigram vocabularies put a space in
front of one, some collapse its blanks; within an answer, neither is in the text.

Knows no grammar, and no kind of vocabulary: what comes out is compared.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from appliance.errors import BadRequest

# Private characters, one of which stands in front of the text instead of its beginning.
_GUARDS = range(0xE000, 0xF900)


class ForcedText:
    """Of one vocabulary; called by several threads.

    `pieces` are the tokens' bytes, empty where a token is special.
    """

    def __init__(self, tokenize: Callable[[str], list[int]], pieces: Sequence[bytes]) -> None:
        self._tokenize = tokenize
        self._pieces = pieces

    def tokens(self, text: bytes) -> list[int]:
        """As the vocabulary would write `text`; by the longest tokens where it changes the
        text itself. Ends early at a byte for which there is no token.
        """
        characters = text.decode("utf-8", errors="replace")
        for tokenize in (self._tokenize, self._behind_guard):
            try:
                tokens = tokenize(characters)
            except BadRequest:  # a character of no token
                continue
            if b"".join([self._pieces[token] for token in tokens]) == text:
                return tokens
        return self._longest(text)

    def _behind_guard(self, characters: str) -> list[int]:
        guard, guard_tokens = self._guard
        tokens = self._tokenize(guard + characters)
        # elsewhere the text begins with what is merged with the guard, and is compared
        return tokens[len(guard_tokens) :]

    @functools.cached_property
    def _guard(self) -> tuple[str, list[int]]:
        """A character of no token, so that nothing merges with it, and what it becomes."""
        vocabulary = b"\0".join(self._pieces)
        guard = next(
            (one for one in map(chr, _GUARDS) if one.encode("utf-8") not in vocabulary),
            chr(_GUARDS[0]),
        )
        return guard, self._tokenize(guard)  # raises where it cannot be written

    def _longest(self, text: bytes) -> list[int]:
        tokens: list[int] = []
        at = 0
        while at < len(text):
            size = min(self._longest_bytes, len(text) - at)
            while size and text[at : at + size] not in self._by_piece:
                size -= 1
            if not size:
                break
            tokens.append(self._by_piece[text[at : at + size]])
            at += size
        return tokens

    @functools.cached_property
    def _by_piece(self) -> dict[bytes, int]:
        """Of tokens for the same bytes the last: those for single bytes come first."""
        return {piece: token for token, piece in enumerate(self._pieces) if piece}

    @functools.cached_property
    def _longest_bytes(self) -> int:
        return max(map(len, self._by_piece), default=0)

"""Tokenizes text from the middle of an answer: exactly its bytes, and nothing in front of
them.

Tokenizers are made for whole texts. SentencePiece and Unigram vocabularies put a space in
front of one, some collapse its blanks; within an answer, neither is in the text.

Knows no grammar, and no kind of vocabulary: what comes out is compared.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Protocol, overload

from appliance.errors import BadRequest
from appliance.worker.child.tokenizing.text_pieces import PieceVocabulary, text_pieces

# Private characters, one of which stands in front of the text instead of its beginning.
_GUARDS = range(0xE000, 0xF900)


class ForcedVocabulary(PieceVocabulary, Protocol):
    """What of a loaded model it takes; implemented by `appliance.llama.model.Model`."""

    @property
    def num_vocab(self) -> int: ...

    def tokenize(self, text: str, *, parse_special: bool) -> list[int]: ...


def forced_text(vocabulary: ForcedVocabulary) -> ForcedText:
    """Of a model; reads all its tokens only where that is needed."""
    tokenize = functools.partial(vocabulary.tokenize, parse_special=False)
    return ForcedText(tokenize, _Pieces(vocabulary))


def tokens_within(vocabulary: ForcedVocabulary, forced: ForcedText, text: str) -> list[int]:
    """Of text from the middle of an answer, in which special tokens are read as such."""
    tokens = vocabulary.tokenize(text, parse_special=True)
    if not vocabulary.adds_space_prefix:
        return tokens
    within, run = list[int](), b""
    for token, piece in zip(
        tokens, text_pieces(vocabulary, tokens, shows_special=False), strict=True
    ):
        if vocabulary.begins_text(token):
            within += [*forced.tokens(run), token]
            run = b""
        else:
            run += piece
    return within + forced.tokens(run)


class _Pieces(Sequence[bytes]):
    """Of all tokens, each read when it is asked for."""

    def __init__(self, vocabulary: ForcedVocabulary) -> None:
        self._vocabulary = vocabulary

    def __len__(self) -> int:
        return self._vocabulary.num_vocab

    @overload
    def __getitem__(self, token: int) -> bytes: ...

    @overload
    def __getitem__(self, token: slice) -> Sequence[bytes]: ...

    def __getitem__(self, token: int | slice) -> bytes | Sequence[bytes]:
        if isinstance(token, slice):
            return [self._vocabulary.piece(one) for one in range(len(self))[token]]
        if not 0 <= token < len(self):
            raise IndexError(token)
        return self._vocabulary.piece(token)


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

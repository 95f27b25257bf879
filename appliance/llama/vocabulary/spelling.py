"""Writes the name of a special token in other tokens, where it is to be plain text.

Knows no tokenizer. llama.cpp's for RWKV and SentencePiece take a control token for its
name also where special tokens are not to be read: whoever can write a text could end it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

from appliance.llama.vocabulary.gaps import no_token

_LONGEST_CHARACTER = 4  # bytes


class Spelling:
    """Of one vocabulary; `piece` gives what a token stands for, nothing for special
    ones, and `names` has those that are never to be read from a text.
    """

    def __init__(
        self, piece: Callable[[int], bytes], num_tokens: int, names: Mapping[int, bytes]
    ) -> None:
        self._piece = piece
        self._num_tokens = num_tokens
        self._names = names

    def as_plain(self, tokens: list[int]) -> list[int]:
        """`tokens` with those written out. Raises `BadRequest` where there is no way."""
        if self._names.keys().isdisjoint(tokens):
            return tokens
        return [plain for token in tokens for plain in self._plain(token)]

    def _plain(self, token: int) -> list[int]:
        return self._spelled(self._names[token]) if token in self._names else [token]

    def _spelled(self, name: bytes) -> list[int]:
        """One for each character, or each of its bytes.

        Raises `BadRequest` where there are none for them.
        """
        tokens: list[int] = []
        for character in name.decode("utf-8", errors="replace"):
            data = character.encode()
            parts = [data] if data in self._by_piece else [bytes([byte]) for byte in data]
            for part in parts:
                if part not in self._by_piece:
                    raise no_token(character)
                tokens.append(self._by_piece[part])
        return tokens

    @functools.cached_property
    def _by_piece(self) -> dict[bytes, int]:
        found: dict[bytes, int] = {}
        for token in range(self._num_tokens):
            piece = self._piece(token)
            if 0 < len(piece) <= _LONGEST_CHARACTER:
                found[piece] = token
        return found

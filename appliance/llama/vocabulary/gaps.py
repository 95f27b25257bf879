"""Characters that a vocabulary has no token for, as llama.cpp's tokenizers meet them.

Knows no request. What is sampled is no matter of it.

Most vocabularies can write every byte. Of those that cannot, SentencePiece's end the
process at such a character (`llama_vocab::byte_to_token` throws), BPE leaves it out,
and the others put -1 in its place where they have no unknown token.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

import llama_cpp

from appliance.errors import BadRequest

_BLANK = "▁"  # how SentencePiece writes a space
_BYTE_NAMES = frozenset(f"<0x{byte:02X}>".encode() for byte in range(256))
# 0xC0, 0xC1 and what is above 0xF4 are in no text.
_EVERY_BYTE = frozenset(bytes([byte]) for byte in (*range(0xC0), *range(0xC2, 0xF5)))


class VocabularyGaps:
    """Of one vocabulary.

    `tokenize` and `piece` are llama.cpp's own; `vocab` is a `llama_vocab` of
    `num_tokens`.
    """

    def __init__(
        self,
        vocab: object,
        num_tokens: int,
        tokenize: Callable[[bytes], list[int]],
        piece: Callable[[int], bytes],
        *,
        adds_space_prefix: bool,
    ) -> None:
        self._prefix = " " if adds_space_prefix else ""
        self._tokenize = tokenize
        self._piece = piece
        kind = llama_cpp.llama_vocab_type(vocab)
        texts = (llama_cpp.llama_vocab_get_text(vocab, token) for token in range(num_tokens))
        self._dies = self._drops = False
        self._texts: Collection[bytes] = ()  # where it dies, of all tokens
        if kind == llama_cpp.LLAMA_VOCAB_TYPE_SPM and not _has_all(texts, _BYTE_NAMES):
            self._dies = True
            self._texts = {
                llama_cpp.llama_vocab_get_text(vocab, token) for token in range(num_tokens)
            }
        elif kind == llama_cpp.LLAMA_VOCAB_TYPE_BPE:
            self._drops = not _has_all(map(piece, range(num_tokens)), _EVERY_BYTE)
        self._can_be_read: dict[str, bool] = {}  # characters, where it dies

    def check_before(self, data: bytes) -> None:
        """Raises `BadRequest` for a character at which the process would end."""
        if not self._dies:
            return
        for character in dict.fromkeys(self._prefix + data.decode("utf-8")):
            if character not in self._can_be_read:
                self._can_be_read[character] = self._is_known(character)
            if not self._can_be_read[character]:
                raise no_token(character)

    def check_after(self, data: bytes, tokens: Sequence[int]) -> None:
        """Raises `BadRequest` for a character that is in none of `tokens`."""
        if tokens and min(tokens) < 0:
            raise no_token(self._first(data, lambda character: min(self._tokenize(character)) < 0))
        if self._drops and not self._writes(data, tokens):
            raise no_token(
                self._first(
                    data, lambda character: not self._writes(character, self._tokenize(character))
                )
            )

    def _writes(self, data: bytes, tokens: Sequence[int]) -> bool:
        written = b"".join(map(self._piece, tokens))
        return written in (data, data.replace(_BLANK.encode(), b" "))

    def _is_known(self, character: str) -> bool:
        written = character.replace(" ", _BLANK).encode()
        return written in self._texts or all(
            b"<0x%02X>" % byte in self._texts or bytes([byte]) in self._texts for byte in written
        )

    @staticmethod
    def _first(data: bytes, is_missing: Callable[[bytes], bool]) -> str:
        """The first such character; empty where no character alone is."""
        characters = dict.fromkeys(data.decode("utf-8"))
        return next((one for one in characters if is_missing(one.encode())), "")


def _has_all(texts: Iterable[bytes], wanted: Collection[bytes]) -> bool:
    """Looks no further than it must: they usually come first."""
    missing = set(wanted)
    for text in texts:
        missing.discard(text)
        if not missing:
            return True
    return False


def no_token(character: str) -> BadRequest:
    """`character` is empty where it is not known which one it is."""
    name = f"{character!r} (U+{ord(character):04X})" if character else "a part of this text"
    return BadRequest(
        f"This model's vocabulary has no token for {name}. Leave it out, or use another model."
    )

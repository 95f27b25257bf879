"""Splits text at the special tokens written in it, exactly as llama.cpp does, in time
that grows with the text.

llama.cpp's own way (`tokenizer_st_partition` in llama-vocab.cpp) walks its list of
pieces anew for every match, so a text of many special tokens takes quadratic time.
Knows no tokenizer and no library: it is handed a vocabulary's special tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_SPACE = b" \t\n\v\f\r"  # C's isspace, in every locale that Python starts in


@dataclass(frozen=True, kw_only=True)
class SpecialToken:
    """One of a vocabulary's special tokens."""

    token: int
    text: bytes  # as it is written
    # it counts even where special tokens are to stay plain text (llama.cpp's "user
    # defined" kind)
    always: bool
    strips_left: bool = False  # takes the white space in front of it
    strips_right: bool = False


class SpecialTokens:
    """All special tokens of one vocabulary.

    llama.cpp takes the longest token first wherever it occurs, then the next, and so
    on: with `ab` and `bcd`, the text `abcd` is `a` and `bcd`. Tokens of one length are
    taken in an order it does not promise; `can_split` is False where that would make a
    difference, and where a token has no text.
    """

    def __init__(self, tokens: Iterable[SpecialToken]) -> None:
        self._tokens = sorted(tokens, key=lambda special: len(special.text), reverse=True)
        self.can_split = all(special.text for special in self._tokens) and not _has_rivals(
            self._tokens
        )

    def split(self, text: bytes, *, parse_special: bool) -> Iterator[bytes | int]:
        """`text` in order: special tokens
        as ids, all between them as bytes, never empty.
        """
        assert self.can_split
        cut = _Cut(text)
        for special in self._tokens:
            if parse_special or special.always:
                cut.take(special)
        return cut.pieces()


class _Cut:
    """A text and what of it is taken already: by a special token, or as the white space
    beside one.
    """

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._taken = bytearray(len(text))
        self._tokens: dict[int, SpecialToken] = {}  # by where they begin

    def take(self, special: SpecialToken) -> None:
        """Every occurrence in what is not taken yet, from the left."""
        size = len(special.text)
        start = self._text.find(special.text)
        while start >= 0:
            end = start + size
            in_the_way = self._taken.find(1, start, end)
            if in_the_way < 0:
                self._tokens[start] = special
                self._taken[start:end] = b"\1" * size
                end = self._strip(special, start, end)
            else:
                # an occurrence that began later, but before the end of what is in the
                # way, would meet it too
                end = self._end_of_run(0, in_the_way)
            start = self._text.find(special.text, end)

    def _strip(self, special: SpecialToken, start: int, end: int) -> int:
        """Takes the white space beside a token, as far as nobody has it; returns where
        the right one ends.
        """
        if special.strips_left:
            left = start
            while left > 0 and not self._taken[left - 1] and self._text[left - 1] in _SPACE:
                left -= 1
            self._taken[left:start] = b"\1" * (start - left)
        right = end
        if special.strips_right:
            while (
                right < len(self._text) and not self._taken[right] and self._text[right] in _SPACE
            ):
                right += 1
            self._taken[end:right] = b"\1" * (right - end)
        return right

    def pieces(self) -> Iterator[bytes | int]:
        at = 0
        while at < len(self._text):
            special = self._tokens.get(at)
            if special is not None:
                yield special.token
                at += len(special.text)
            elif self._taken[at]:
                at += 1  # stripped white space
            else:
                end = self._end_of_run(1, at)
                yield self._text[at:end]
                at = end

    def _end_of_run(self, until: int, start: int) -> int:
        """Where the first byte `until` of `_taken` is, from `start` on."""
        end = self._taken.find(until, start)
        return len(self._text) if end < 0 else end


def _has_rivals(tokens: list[SpecialToken]) -> bool:
    """Whether two tokens of one length can claim the same place: equal, or one begins
    as the other ends.
    """
    by_length: dict[int, list[bytes]] = {}
    for special in tokens:
        by_length.setdefault(len(special.text), []).append(special.text)
    return any(_overlap(texts, length) for length, texts in by_length.items() if len(texts) > 1)


def _overlap(texts: list[bytes], length: int) -> bool:
    if len(set(texts)) < len(texts):
        return True
    for size in range(1, length):
        beginnings: dict[bytes, set[bytes]] = {}
        for text in texts:
            beginnings.setdefault(text[:size], set()).add(text)
        if any(beginnings.get(text[-size:], set()) - {text} for text in texts):
            return True
    return False

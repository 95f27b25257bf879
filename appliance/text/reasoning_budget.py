"""Ends a model's reasoning after so many tokens, by forcing the mark that ends it.

Knows no grammar and no sampling.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from appliance.engine.constraint import Constraint


class ReasoningBudget:
    """Implements `appliance.engine.constraint.Constraint`, around another one or none.

    Of answers whose reasoning begins and ends with `marks` (where `is_open` it has
    begun); `end_tokens` write its end. Once `max_tokens` of it are written, the next
    can only be those. `text` gives a token's text as bytes.
    """

    def __init__(
        self,
        max_tokens: int,
        marks: tuple[str, str],
        end_tokens: Sequence[int],
        text: Callable[[int], bytes],
        num_vocab: int,
        *,
        is_open: bool,
        inner: Constraint | None,
    ) -> None:
        self._left = max_tokens
        self._begin, self._end = (mark.strip().encode("utf-8") for mark in marks)
        self._end_tokens = end_tokens
        self._text = text
        self._num_vocab = num_vocab
        self._is_open = is_open
        self._is_over = False
        self._inner = inner
        self._seen = b""  # as much of the last text as a mark is long
        self._forced: list[int] = []

    def mask(self) -> bytes:
        if self._forced or (self._is_open and self._left <= 0):
            self._forced = self._forced or list(self._end_tokens)
            return _one_bit(self._forced[0], self._num_vocab)
        return self._inner.mask() if self._inner is not None else _all_bits(self._num_vocab)

    def accept(self, token: int) -> None:
        if self._forced:
            del self._forced[0]
        if not self._is_over:
            self._follow(token)
        if self._inner is not None:
            self._inner.accept(token)

    def _follow(self, token: int) -> None:
        self._seen += self._text(token)
        if not self._is_open:
            if self._seen.lstrip().startswith(self._begin):
                self._is_open, self._seen = True, b""
            elif not self._begin.startswith(self._seen.lstrip()[: len(self._begin)]):
                self._is_over = True  # the answer begins with something else
        elif self._end in self._seen:
            self._is_over, self._is_open = True, False
        else:
            self._seen = self._seen[-len(self._end) :]
            self._left -= 1


def _one_bit(token: int, num_vocab: int) -> bytes:
    mask = bytearray(_num_bytes(num_vocab))
    mask[token // 8] = 1 << token % 8
    return bytes(mask)


def _all_bits(num_vocab: int) -> bytes:
    return ((1 << num_vocab) - 1).to_bytes(_num_bytes(num_vocab), "little")


def _num_bytes(num_vocab: int) -> int:
    """Whole words of 32 bits."""
    return (num_vocab + 31) // 32 * 4

"""Drafts what followed the same tokens before, in the request itself or in others lately. Knows no model and no costs.

Prompt lookup (Saxena 2023, "Prompt Lookup Decoding"; earlier as LLMA, Yang et al. 2023, "Inference with Reference"):
an answer that copies or edits text goes on as that text does. Texts are arrays of token ids, and looked through whole:
that takes 4 bytes a token and no index to build.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq

import numpy as np
import numpy.typing as npt

from appliance.engine.speculation import DraftCost, DraftRequest, Proposal

_Tokens = npt.NDArray[np.int32]

LEAST_MATCH = 3  # tokens: two in a row are too common to tell what follows
_GRADES = (5, 9)  # a match of so many tokens or more is of the next grade
_MOST_MATCH = 16  # longer ones are not told apart
_MOST_PAST_TOKENS = 1 << 15  # of sequences that have ended
_BREAK = -1  # between two texts: no token
_FREE = DraftCost(0.0, 0.0)
_NOTHING = Proposal(())


class PromptLookup:
    """A `Drafter`. Grade 0 of its proposals is a match of 3 or 4 tokens, 1 of up to 8, 2 of more."""

    name = "prompt lookup"

    def __init__(self) -> None:
        self._texts: dict[int, _Text] = {}
        self._past = _Text()

    def cost(self, requests: Seq[DraftRequest]) -> DraftCost:  # noqa: ARG002 - the Protocol's signature
        """Nothing that could be told from a step's own time."""
        return _FREE

    def propose(self, requests: Seq[DraftRequest]) -> list[Proposal]:
        """What followed the longest match, the latest of equals; in the request's own text before all others."""
        return [self._proposal(request) for request in requests]

    def release(self, slot: int) -> None:
        """Its text is one of the past, as much of which is kept as there is room for."""
        text = self._texts.pop(slot, None)
        if text is not None:
            self._past.append([_BREAK, *text.tokens[-_MOST_PAST_TOKENS + 1 :].tolist()])
            self._past.keep_last(_MOST_PAST_TOKENS)

    def _proposal(self, request: DraftRequest) -> Proposal:
        if request.most_tokens <= 0 or len(request.tokens) < LEAST_MATCH:
            return _NOTHING
        text = self._texts.setdefault(request.slot, _Text())
        text.append(request.tokens[len(text) :])
        ending = text.tokens[-_MOST_MATCH:]
        for source in (text, self._past):
            end, num_tokens = source.longest_match(ending)
            if num_tokens >= LEAST_MATCH:
                return Proposal(source.behind(end, request.most_tokens), _grade(num_tokens))
        return _NOTHING


class _Text:
    """Token ids that grow at their end."""

    def __init__(self) -> None:
        self._array: _Tokens = np.empty(256, np.int32)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    @property
    def tokens(self) -> _Tokens:
        return self._array[: self._size]

    def append(self, tokens: Seq[int]) -> None:
        size = self._size + len(tokens)
        if size > len(self._array):
            grown = np.empty(2 * size, np.int32)
            grown[: self._size] = self.tokens
            self._array = grown
        self._array[self._size : size] = tokens
        self._size = size

    def keep_last(self, num_tokens: int) -> None:
        if self._size > num_tokens:
            self._array = self.tokens[-num_tokens:].copy()
            self._size = num_tokens

    def longest_match(self, ending: _Tokens) -> tuple[int, int]:
        """(position behind it, tokens of it) of the longest match of an end of `ending`, the latest of equals.

        A match has something behind it: so the text's own end is none of itself.
        """
        text = self.tokens[:-1]
        ends = np.flatnonzero(text == ending[-1])
        ends = ends[self._array[ends + 1] != _BREAK]
        num_tokens = 1 if len(ends) else 0
        while len(ends) and num_tokens < len(ending):
            longer = ends[ends >= num_tokens]
            longer = longer[text[longer - num_tokens] == ending[-1 - num_tokens]]
            if not len(longer):
                break
            ends = longer
            num_tokens += 1
        return (int(ends[-1]) + 1 if len(ends) else 0), num_tokens

    def behind(self, position: int, most: int) -> tuple[int, ...]:
        """Up to `most` tokens from `position` on, not past the end of their text."""
        found = self.tokens[position : position + most]
        breaks = np.flatnonzero(found == _BREAK)
        return tuple((found[: breaks[0]] if len(breaks) else found).tolist())


def _grade(num_tokens: int) -> int:
    return sum(num_tokens >= least for least in _GRADES)

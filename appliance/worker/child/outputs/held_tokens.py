"""Which sampled tokens may be emitted: those whose text was.

Knows no vocabulary and no stop strings.
"""

from __future__ import annotations

import codecs
from collections import deque
from dataclasses import dataclass

from appliance.protocol.events import LikelyToken, SampledToken


@dataclass(frozen=True)
class _HeldToken:
    token: SampledToken
    end: int  # in characters of the answer; a character that is not whole yet counts


class HeldTokens:
    """One answer's tokens, each held back until its text begins to be delivered.

    A token that completes no character has the same beginning as the one that does.
    Where a stop string ends the answer inside a token, that token is emitted: some of
    the text came from it.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held: deque[_HeldToken] = deque()
        self._num_decoded = 0
        self._num_delivered = 0

    def add(self, piece: bytes, chosen: LikelyToken, top: list[LikelyToken]) -> None:
        """The next token; `piece` is what it brings
        to the text, nothing for a control token.
        """
        begin = self._num_decoded
        self._num_decoded += len(self._decoder.decode(piece))
        is_midway = bool(self._decoder.getstate()[0])
        self._held.append(
            _HeldToken(SampledToken(chosen, top, begin), self._num_decoded + is_midway)
        )

    def deliver(self, text: str) -> list[SampledToken]:
        """The tokens that `text`, the next of the answer, comes from, but for those
        delivered before.
        """
        self._num_delivered += len(text)
        due = []
        while self._held and self._is_due(self._held[0]):
            due.append(self._held.popleft().token)
        return due

    def deliver_all(self) -> list[SampledToken]:
        """All of them, where an answer's text is not what its tokens are: some of them
        are marks, and no text.
        """
        due = [held.token for held in self._held]
        self._held.clear()
        return due

    def _is_due(self, held: _HeldToken) -> bool:
        return held.token.text_offset < self._num_delivered or held.end <= self._num_delivered

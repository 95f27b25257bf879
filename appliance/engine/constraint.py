"""What bounds an answer to a form, as the engine sees it: a mask of tokens per step.

Knows no grammar and no text.
"""

from __future__ import annotations

from typing import Protocol


class Constraint(Protocol):
    """One answer's form and how far the answer has come.

    Called for one token after the other, never by two threads.
    """

    def mask(self) -> bytes:
        """The tokens that may come next: one bit each, token 0 in the lowest bit of the
        first byte, whole 32-bit words.

        An end-of-generation token is among them exactly where the answer may end.
        Raises `ConstraintFailed` where nothing may come, or where that cannot be said
        within the bounds on its work; `DecodeFailed` for a fault of its own.
        """

    def accept(self, token: int) -> None:
        """`token`, one of the mask's, is the answer's next.

        Raises `ConstraintFailed` beyond the bounds on its work, and `DecodeFailed` where
        it is refused although it was allowed, or was not.
        """

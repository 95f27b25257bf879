"""Which adapters a sequence is computed with, whose turn they are, and how cells that were
computed with them are told from others.

Knows no weights and no names.

All rows of a step are computed with the same adapters, and changing these costs the
runner time: so each set of adapters that somebody runs with has the steps for a while, in
turns. A sequence's first token carries what its adapters are: wherever tokens are
compared to find a known prefix, in the cache, in host memory or on disk, those of others
differ from the first one on.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass

_TOKEN_BITS = 32


@dataclass(frozen=True)
class AdapterSet:
    """Adapters by their number, each with what it is multiplied by."""

    key: int = 0  # that no other adapters or scales have, also in other processes; 0: none
    scales: tuple[tuple[int, float], ...] = ()

    def marked(self, tokens: Seq[int]) -> list[int]:
        """Tokens of a prompt, of which the first one is these adapters' alone."""
        return [tokens[0] | self.key << _TOKEN_BITS, *tokens[1:]]


NO_ADAPTERS = AdapterSet()


def plain_token(token: int) -> int:
    """The model's own, of one that may be marked."""
    return token & (1 << _TOKEN_BITS) - 1


def key_of(tokens: Seq[int]) -> int:
    """Of the adapters that these tokens' cells were computed with."""
    return tokens[0] >> _TOKEN_BITS if tokens else 0


def plain_tokens(tokens: list[int]) -> list[int]:
    """The model's own; the same list where none is marked."""
    return [plain_token(tokens[0]), *tokens[1:]] if key_of(tokens) else tokens

"""Builds SentencePiece's normalization tables, small ones. Knows no vocabulary.

Form: see `appliance.store.vocabulary.charsmap`.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

_BLOCK = 256
_LEAF = 1 << 8


def charsmap(replacements: Mapping[str, str]) -> bytes:
    """Of texts and what they become; each state has a block of 256 entries."""
    texts, offsets = b"", {}
    for text, replacement in replacements.items():
        offsets[text.encode()] = len(texts)
        texts += replacement.encode() + b"\0"
    states = sorted({text[:size] for text in offsets for size in range(len(text) + 1)})
    blocks = {state: (at + 1) * _BLOCK for at, state in enumerate(states)}
    entries = [0] * ((len(states) + 1) * _BLOCK)
    entries[0] = _packed(0, 0, blocks[b""], is_leaf=False)
    for state, block in blocks.items():
        if not state:
            continue
        index = blocks[state[:-1]] ^ state[-1]
        is_leaf = state in offsets
        entries[index] = _packed(index, state[-1], block, is_leaf=is_leaf)
        if is_leaf:
            entries[block] = (1 << 31) | offsets[state]
    table = struct.pack(f"<{len(entries)}I", *entries)
    return struct.pack("<I", len(table)) + table + texts


def _packed(index: int, label: int, target: int, *, is_leaf: bool) -> int:
    return ((index ^ target) << 10) | (_LEAF if is_leaf else 0) | label

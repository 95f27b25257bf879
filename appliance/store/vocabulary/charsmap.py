"""Follows the table by which Unigram vocabularies normalize text, as far as any text can.

Knows the table's form, and not what it maps to what.

Source: SentencePiece's `precompiled_charsmap` as read by `llm_tokenizer_ugm_session` in
llama.cpp's src/llama-vocab.cpp: the size of an XOR-compressed double array, that array
of 32-bit entries, then the replacements, each ended by a NUL. A step outside of it ends
the process in the middle of a text, so it is looked for here first.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

_SIZE = struct.Struct("<I")
_ENTRY_BYTES = 4
_LABEL = (1 << 31) | 0xFF  # with the bit that marks a value, as llama.cpp compares it
_LEAF = 1 << 8
_VALUE = (1 << 31) - 1


def charsmap_fault(data: bytes) -> str | None:
    """What is wrong with it, in words; None if no text can lead out of it."""
    if not data:
        return None
    if len(data) < _SIZE.size:
        return "is too short"
    [table_bytes] = _SIZE.unpack_from(data)
    if _SIZE.size + table_bytes >= len(data):
        return "is shorter than it says"
    replacements = data[_SIZE.size + table_bytes :]
    if replacements[-1]:
        return "does not end with a NUL"
    num_entries = table_bytes // _ENTRY_BYTES
    entries = struct.unpack_from(f"<{num_entries}I", data, _SIZE.size)
    return _walk(entries, len(replacements)) if entries else None


def _walk(entries: Sequence[int], num_replacement_bytes: int) -> str | None:
    """From the root to every state that some text reaches."""
    children: dict[int, list[int]] = {}  # entries by the state that they follow
    for index, entry in enumerate(entries):
        label = entry & _LABEL
        if 0 < label <= 0xFF:
            children.setdefault(index ^ label, []).append(index)
    waiting, known = [_base(entries[0])], {_base(entries[0])}
    while waiting:
        state = waiting.pop()
        # the next byte of a text may be any
        if (state | 0xFF) >= len(entries) and any(
            state ^ byte >= len(entries) for byte in range(1, 256)
        ):
            return f"leads out of its {len(entries)} entries"
        for index in children.get(state, ()):
            follower = index ^ _base(entries[index])
            if entries[index] & _LEAF:
                if follower >= len(entries):
                    return f"leads out of its {len(entries)} entries"
                if entries[follower] & _VALUE >= num_replacement_bytes:
                    return f"leads out of its {num_replacement_bytes} bytes of replacements"
            if follower not in known:
                known.add(follower)
                waiting.append(follower)
    return None


def _base(entry: int) -> int:
    return (entry >> 10) << ((entry & (1 << 9)) >> 6)

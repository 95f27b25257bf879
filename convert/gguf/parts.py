"""Models that are split over several GGUF files, `NAME-00001-of-00003.gguf` and on.

Opens none of them: llama.cpp is given the first and finds the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

_PART = re.compile(r"(.+-)(\d{5})(-of-\d{5}\.gguf)")
_FIRST = "00001"


def is_other_part(path: Path, names: Iterable[str]) -> bool:
    """Whether `path` is part of a model whose first part is among `names`."""
    match = _PART.fullmatch(path.name)
    return match is not None and match[2] != _FIRST and f"{match[1]}{_FIRST}{match[3]}" in names


def total_bytes(path: Path) -> int:
    """Of a model's file, or of all its parts, of which `path` is the first."""
    match = _PART.fullmatch(path.name)
    if match is None or match[2] != _FIRST:
        return path.stat().st_size
    parts = [
        other
        for other in path.parent.iterdir()
        if other.name.startswith(match[1]) and other.name.endswith(match[3])
    ]
    return sum(part.stat().st_size for part in parts if _PART.fullmatch(part.name))

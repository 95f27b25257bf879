"""Models that are split over several GGUF files, `NAME-00001-of-00003.gguf` and on.

Opens none of them: llama.cpp is given the first and finds the others by their names
(`llama_split_path` in its src/llama.cpp).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

_PART = re.compile(r"(.+-)(\d{5})(-of-\d{5}\.gguf)")
_FIRST = "00001"


def part_path(path: Path, number: int, count: int) -> Path:
    """What part `number` (from 1) of the model that would be `path` in one file is called."""
    return path.with_name(f"{path.stem}-{number:05}-of-{count:05}{path.suffix}")


def forms_of(path: Path) -> list[Path]:
    """What is there of the model that is `path` in one file: that file, and parts of it,
    whatever their count.
    """
    parts = [
        other
        for other in path.parent.iterdir()
        if (match := _PART.fullmatch(other.name)) is not None and match[1] == f"{path.stem}-"
    ]
    return sorted([*parts, *([path] if path.exists() else [])])


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

"""Reads the small text files of /proc and /sys.

Knows their common forms, and no single file.

What cannot be read, and what is not of the form expected, is unknown: "" or None, never
an error and never a guess.
"""

from __future__ import annotations

import re
from pathlib import Path

_NUMBER = re.compile(r"-?[0-9]{1,19}")
# Linux is built for 8192 CPUs at most: more digits are damage, and would make a list of
# that length.
_RANGE = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")


def read_text(path: Path) -> str:
    """The file without surrounding white space; empty where it is not there, not ours
    to read, or not supported.
    """
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except (
        OSError,
        ValueError,
    ):  # ValueError: a path read from a damaged file may hold what no path can
        return ""


def read_number(path: Path) -> int | None:
    return parse_number(read_text(path))


def read_fields(path: Path) -> dict[str, str]:
    """Lines of the form `name: value`, stripped; the first of a name counts."""
    fields: dict[str, str] = {}
    for line in read_text(path).splitlines():
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip(), value.strip())
    return fields


def parse_number(text: str) -> int | None:
    """A whole number of at most 19 digits, which is what the kernel writes of 64 bits;
    None for all else.
    """
    return int(text) if _NUMBER.fullmatch(text) else None


def parse_kib(text: str) -> int | None:
    """`24684092 kB`, as meminfo writes it, in bytes."""
    words = text.split()
    number = parse_number(words[0]) if words and words[1:] in ([], ["kB"]) else None
    return number * 1024 if number is not None and number >= 0 else None


def parse_cpu_list(text: str) -> tuple[int, ...] | None:
    """`0-3,8` -> (0, 1, 2, 3, 8), as affinities, cpusets and NUMA nodes are written;
    None if it is no such list.
    """
    numbers: set[int] = set()
    for part in text.split(",") if text else ():
        match = _RANGE.fullmatch(part.strip())
        if match is None:
            return None
        first, last = int(match[1]), int(match[2] or match[1])
        if first > last:
            return None
        numbers.update(range(first, last + 1))
    return tuple(sorted(numbers))

"""A model card: README.md, and the facts in its front matter.

Knows no GGUF. The facts are somebody's text: only the sections that are wanted are read,
as plain strings, each within limits, and one that cannot be read is as if it were absent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

_MAX_CARD_BYTES = 4 << 20  # cards with thousands of benchmark results take half a megabyte
_MAX_SECTION_CHARS = 32 << 10
_MAX_VALUES = 256
_MAX_VALUE_CHARS = 1024
_SECTION = re.compile(r"([A-Za-z_][\w-]*)\s*:")


@dataclass(frozen=True)
class ModelCard:
    """README.md of a checkpoint; empty where there is none."""

    text: str = ""
    _sections: Mapping[str, str] = field(default_factory=dict)

    def values(self, key: str) -> Sequence[str]:
        """What the front matter says under `key`: one value, or a list of them."""
        return [value for value in self._parsed(key) if value]

    def value(self, key: str) -> str | None:
        values = self.values(key)
        return values[0] if len(values) == 1 else None

    def _parsed(self, key: str) -> list[str]:
        section = self._sections.get(key, "")
        if not section or len(section) > _MAX_SECTION_CHARS:
            return []
        try:
            # every scalar is a string (`no` is Norwegian), and nothing is built but lists
            # and maps of them
            parsed = yaml.load(section, Loader=yaml.BaseLoader)
        except (yaml.YAMLError, ValueError, RecursionError):
            return []
        found: Any = parsed.get(key) if isinstance(parsed, dict) else None
        items = found if isinstance(found, list) else [found]
        return [
            _plain(item[:_MAX_VALUE_CHARS]) for item in items[:_MAX_VALUES] if isinstance(item, str)
        ]

    @property
    def titles(self) -> Sequence[str]:
        """The headings of the first level."""
        titles: list[str] = re.findall(r"(?m)^# +(.*?) *$", self.text)
        return titles


def read_card(directory: Path) -> ModelCard:
    """Never raises: no model depends on its card."""
    path = directory / "README.md"
    try:
        if not path.is_file():
            return ModelCard()
        with path.open("rb") as file:
            text = file.read(_MAX_CARD_BYTES).decode("utf-8-sig", errors="replace")
    except OSError:
        return ModelCard()
    return ModelCard(text, _sections(text))


def _sections(text: str) -> dict[str, str]:
    """The text of each key at the outermost level of the front matter, by the key.

    Some cards have megabytes of results there, some an error in one place: each section
    is read for itself.
    """
    lines = text.splitlines()
    sections: dict[str, list[str]] = {}
    if not lines or lines[0].rstrip() != "---":
        return {}
    current: list[str] = []
    for line in lines[1:]:
        if line.rstrip() in ("---", "..."):
            break
        match = _SECTION.match(line)
        if match:
            current = sections.setdefault(match[1], [])
        current.append(line.replace("\t", "  "))
    else:
        return {}  # the front matter has no end, so it is none
    return {key: "\n".join(section) for key, section in sections.items()}


def _plain(text: str) -> str:
    """Without line breaks, and without what no file could hold."""
    printable = "".join(char for char in " ".join(text.split()) if char.isprintable())
    return printable.encode(errors="ignore").decode()

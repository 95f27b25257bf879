"""The supported families as a table of Markdown, for docs/guide/convert.md.

Knows no family.
"""

from __future__ import annotations

from convert.architectures import FAMILIES
from convert.architectures.refused import REFUSED

_SEEING = "ForConditionalGeneration"


def supported_table() -> str:
    """A row for each family, and one for each that is refused by name."""
    lines = ["| Models | `architectures` in config.json | llama.cpp's name |", "|---|---|---|"]
    for family in sorted(FAMILIES, key=lambda family: family.models.lower()):
        names = ", ".join(_shown(name) for name in family.architectures)
        lines.append(f"| {family.models} | {names} | `{family.name}` |")
    lines += ["", "Refused by name, because the llama.cpp that is pinned computes them otherwise:"]
    lines += ["", "| Architecture | Why |", "|---|---|"]
    lines += [f"| `{name}` | {reason} |" for name, reason in sorted(REFUSED.items())]
    return "\n".join(lines)


def _shown(name: str) -> str:
    return f"`{name}` (the text part)" if name.endswith(_SEEING) else f"`{name}`"

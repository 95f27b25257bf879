"""The supported families as a table of Markdown, for docs/guide/convert.md.

Knows no family.
"""

from __future__ import annotations

from collections.abc import Sequence

from convert.architectures import FAMILIES
from convert.architectures.refused import REFUSED
from convert.architectures.seeing import WRAPPERS


def supported_table() -> str:
    """A row for each family, one for each kind of model with a text part, and one for each
    that is refused by name.
    """
    lines = ["| Models | `architectures` in config.json | llama.cpp's name |", "|---|---|---|"]
    for family in sorted(FAMILIES, key=lambda family: family.models.lower()):
        if names := family.architectures or family.headless:  # others are only inside
            lines.append(f"| {family.models} | {_listed(names)} | `{family.name}` |")
    lines += ["", "Of models that see or hear too, only the part that writes is converted:"]
    lines += ["", "| Models | `architectures` in config.json |", "|---|---|"]
    for wrapper in sorted(WRAPPERS, key=lambda wrapper: wrapper.models.lower()):
        lines.append(f"| {wrapper.models} | {_listed(wrapper.architectures)} |")
    lines += ["", "Refused by name, because the pinned llama.cpp does not compute them as trained:"]
    lines += ["", "| Architecture | Why |", "|---|---|"]
    lines += [f"| `{name}` | {reason} |" for name, reason in sorted(REFUSED.items())]
    return "\n".join(lines)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)

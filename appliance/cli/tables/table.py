"""Columns of plain text for terminals and pipes. Knows nothing of what is in them."""

from __future__ import annotations

import re
from collections.abc import Sequence


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Columns two spaces apart, those of numbers flush right."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            c.rjust(w) if _is_number(c) else c.ljust(w) for c, w in zip(row, widths, strict=True)
        ]
        lines.append(("  " + "  ".join(cells)).rstrip())
    return "\n".join(lines)


def _is_number(cell: str) -> bool:
    return re.fullmatch(r"-|[0-9.]+( [MG]iB)?", cell) is not None

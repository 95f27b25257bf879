"""Durations as people write them: `30s`, `1h30m`, `250ms`, `300`.

Knows no option and no request field.
"""

from __future__ import annotations

import math
import re

_MAX_S = 1e9  # some thirty years
_SECONDS_PER_UNIT = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_NUMBER = r"\d{1,12}(?:\.\d{1,9})?"
_PART = re.compile(rf"({_NUMBER})(ms|s|m|h|d)")


def duration_s(text: str) -> float:
    """Seconds of a text such as `5m`, `1h30m`, `250ms` or `300` (plain seconds).

    Anything negative means for ever, as in Ollama's `keep_alive`, and is infinite.
    Raises `ValueError` for anything else, and for more than 1e9 seconds.
    """
    size = text.strip().lower().removeprefix("-")
    parts = _PART.findall(size)
    if parts and "".join(number + unit for number, unit in parts) == size:
        seconds = math.fsum(float(number) * _SECONDS_PER_UNIT[unit] for number, unit in parts)
    elif re.fullmatch(_NUMBER, size):
        seconds = float(size)
    else:
        raise ValueError(f"not a duration: {text[:40]!r}")
    if seconds > _MAX_S:
        raise ValueError(f"more than {_MAX_S:g} seconds: {text[:40]!r}")
    return math.inf if text.strip().startswith("-") else seconds

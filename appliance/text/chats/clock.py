"""Where a chat template shows the present time, as far as its source tells. Renders nothing."""

from __future__ import annotations

import re

_NAME = "strftime_now"
_CALL = re.compile(rf"""{_NAME}\s*\(\s*(?:"([^"\\]*)"|'([^'\\]*)')\s*\)""")
_TEST = re.compile(rf"{_NAME}\s+is\s+(?:not\s+)?defined")


def clock_formats(source: str) -> list[str] | None:
    """The formats in which it is written; None where a template computes them."""
    formats = {double or single for double, single in _CALL.findall(source)}
    rest = _TEST.sub("", _CALL.sub("", source))
    return None if _NAME in rest else sorted(formats)

"""How an adapter is named in a setting. Knows no option and no file's content."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path

from appliance.settings.options import Parser

_MAX_SCALE = 1000.0
ADAPTER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class NamedAdapter:
    """A file, the name that requests have for it, and what its part is multiplied by."""

    name: str
    path: str
    scale: float = 1.0

    def inside(self, folder: Path) -> NamedAdapter:
        """Its path is relative to this folder."""
        return replace(self, path=str(folder / self.path))


def named_adapter() -> Parser:
    """`NAME=FILE` or `NAME=FILE:SCALE`."""

    def read(text: str) -> NamedAdapter:
        name, equals, rest = text.partition("=")
        if not equals or ADAPTER_NAME.fullmatch(name) is None or not rest or "\0" in rest:
            raise ValueError
        path, colon, scale = rest.rpartition(":")
        if colon and path and _is_scale(scale):
            return NamedAdapter(name, _at_home(path), float(scale))
        return NamedAdapter(name, _at_home(rest))

    return Parser(
        read,
        "NAME=FILE or NAME=FILE:SCALE, the name of letters, digits, '.', '_' and '-'",
    )


def _at_home(path: str) -> str:
    return str(Path(path).expanduser())


def _is_scale(text: str) -> bool:
    try:
        value = float(text)
    except ValueError:
        return False
    return math.isfinite(value) and abs(value) <= _MAX_SCALE

"""What a release is made of: a piece of software or a model,
with its licence and where it lies.

Knows no form of writing it down.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from packageurl import PackageURL


@dataclass(frozen=True, kw_only=True)
class Component:
    """One thing that a release passes on."""

    name: str
    licence: str  # an SPDX expression, or a name where SPDX has none
    texts: Mapping[str, bytes]  # of its licence and notices, by file name
    version: str | None = None
    purl: PackageURL | None = None
    is_model: bool = False
    files: Mapping[str, str] = field(default_factory=dict)  # SHA-256 by path
    parts: tuple[Component, ...] = ()  # of others, compiled or copied into it

    @property
    def reference(self) -> str:
        """What tells it from others."""
        return self.name if self.purl is None else str(self.purl)


def sha256(path: Path) -> str:
    """Of a file's bytes, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

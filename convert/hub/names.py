"""What SRC is called, where it is not a folder but a repository on a hub.

Asks nobody.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_SOURCE = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@([^\s@]+))?")


@dataclass(frozen=True)
class HubName:
    """`org/repo`, and a branch, tag or commit of it; None: the newest commit of its main branch."""

    repo: str
    revision: str | None

    @property
    def folder_name(self) -> str:
        return self.repo.rpartition("/")[2]


def hub_name(source: Path) -> HubName | None:
    """What SRC names on a hub; None where there is such a path, or it can only be one."""
    match = _SOURCE.fullmatch(source.as_posix())
    if match is None or source.exists() or source.parent.is_dir():
        return None
    return HubName(match[1], match[2])

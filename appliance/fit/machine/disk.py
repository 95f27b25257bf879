"""Free space where models are kept. Knows no model and no speed."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Disk:
    """The file system that holds `directory`."""

    directory: str
    free_bytes: int  # that we may write, without root's reserve
    total_bytes: int


def free_disk(directory: Path) -> Disk | None:
    """Asked of the nearest directory above that exists;
    None if that cannot be looked at.
    """
    try:
        existing = next(
            path for path in (directory, *directory.absolute().parents) if path.is_dir()
        )
        usage = shutil.disk_usage(existing)
    except (OSError, StopIteration):
        return None
    return Disk(str(directory), usage.free, usage.total)

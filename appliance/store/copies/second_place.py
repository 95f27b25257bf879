"""A file's content at a second place: by the same blocks, as a hard link, as a copy.

Knows no model. What others will see under its name is written by them first under another.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

_FICLONE = 0x40049409  # of linux/fs.h: shares the blocks of a file, where the file system can
_READ_BYTES = 1 << 20


def sha256_of(path: Path, on_progress: Callable[[int], None] = lambda _done: None) -> str:
    """`on_progress` gets the number of bytes that were read. Raises `OSError`."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_READ_BYTES):
            digest.update(chunk)
            on_progress(stream.tell())
    return digest.hexdigest()


def share(source: Path, target: Path) -> None:
    """The same blocks, where the file system can (a reflink), else a hard link: nothing is
    written twice. Raises `OSError`, where it can neither.
    """
    if not _cloned(source, target):
        os.link(source, target)


def link_or_copy(source: Path, target: Path) -> None:
    """Raises `OSError`."""
    try:
        os.link(source, target)
    except OSError:  # no hard links here, or too many
        copy(source, target)


def copy(
    source: Path, target: Path, on_progress: Callable[[int], None] = lambda _done: None
) -> None:
    """Sharing blocks where the file system can; on the disk when it returns.

    `on_progress` gets the number of bytes that were written. Raises `OSError`.
    """
    if _cloned(source, target):
        return
    with source.open("rb") as stream, target.open("xb") as out:
        while chunk := stream.read(_READ_BYTES):
            out.write(chunk)
            on_progress(stream.tell())
        out.flush()
        os.fsync(out.fileno())


def _cloned(source: Path, target: Path) -> bool:
    """Whether `target` has the blocks of `source` now; else it is not there."""
    if sys.platform != "linux":
        return False
    with (
        source.open("rb") as stream,
        target.open("xb") as out,
        contextlib.suppress(OSError),  # another file system, or one that cannot
    ):
        fcntl.ioctl(out.fileno(), _FICLONE, stream.fileno())
        return True
    target.unlink()
    return False

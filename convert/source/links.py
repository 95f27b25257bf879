"""Which of a folder's files are read, and where their symbolic links may lead.

Opens no file but to see whether it is a Git LFS pointer; knows no model family.

A folder may come from somebody who put links into it, so that a stranger's file ends in
the output. Its owner may have put them there too: weights on another disk, or a whole
folder of links to another one. A link is therefore followed where what it leads to can
only be what is asked for: weights, which are checked when they are opened; a file of
the same name; a blob of a Hugging Face cache.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from convert.errors import DamagedCheckpoint, MissingFile
from convert.source.descriptions import CARD, describes
from convert.source.folder import check_is_no_pointer

_WEIGHTS = ".safetensors"
# the folders that files are read in, beside the checkpoint's own
_READ_FOLDERS = ("additional_chat_templates", "[0-9]*_*")


def check_files(directory: Path) -> None:
    """Every file that may be read is there as a plain file that belongs to this checkpoint.

    Raises `DamagedCheckpoint` for a link that leads to something else, and for what is
    no regular file, which might never end; `MissingFile` for a link that leads nowhere,
    and for a Git LFS pointer.
    """
    try:
        root = directory.resolve()
        for path in _read_files(directory):
            _check_file(path, root)
    except OSError as error:
        raise MissingFile(f"{error.filename} cannot be read: {error.strerror}.") from error


def _read_files(directory: Path) -> Iterator[Path]:
    yield from (path for path in directory.iterdir() if _is_read(path.name) and not path.is_dir())
    for pattern in _READ_FOLDERS:
        for folder in directory.glob(pattern):
            if folder.is_dir():
                yield from (
                    path for path in folder.iterdir() if describes(f"{folder.name}/{path.name}")
                )


def _is_read(name: str) -> bool:
    """Whether a model depends on a file of the folder itself: on its card it does not."""
    return name.endswith(_WEIGHTS) or (describes(name) and name != CARD)


def _check_file(path: Path, root: Path) -> None:
    try:
        target = path.resolve()
    except RuntimeError:  # a loop, of which Python 3.13 and later make nothing
        target = path
    if target.is_symlink():
        raise DamagedCheckpoint(f"{path} is a symbolic link that points back to itself.")
    if not target.exists():
        raise MissingFile(
            f"{path} is a symbolic link to {target}, which is missing. Mount the disk it is on, or "
            "replace the link with the file."
        )
    if root not in target.parents and not _may_lead_to(path, target):
        raise DamagedCheckpoint(
            f"{path} is a symbolic link to {target}, a file of another name outside the "
            "checkpoint. If it is meant, replace the link with a copy of the file (cp -L)."
        )
    if not stat.S_ISREG(target.stat().st_mode):
        raise DamagedCheckpoint(f"{path} is not a regular file.")
    if not os.access(target, os.R_OK):
        raise MissingFile(f"{path} cannot be read: permission denied.")
    check_is_no_pointer(path)


def _may_lead_to(path: Path, target: Path) -> bool:
    is_blob = target.parent.name == "blobs" and target.parent.parent.name.startswith("models--")
    return path.suffix == _WEIGHTS or path.name == target.name or is_blob

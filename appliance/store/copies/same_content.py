"""A file that a hub announces, from a copy of it on this machine: found, checked, taken.

Asks no hub. Copies are known by the hash of their content, whatever their name: those in
the models directory by the record of the folder that they are in, others by their size.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from appliance.store.copies.second_place import copy, link_or_copy, sha256_of
from appliance.store.event import OnEvent, ProgressEvents, StoreEvent
from appliance.store.hub.records import HubFile
from appliance.store.hub_folder import read_record

_MOST_FILES = 10_000  # of a folder that is looked through: somebody may name the root


def has_twin(file: HubFile, models_dir: Path) -> bool:
    """Whether a folder of the models directory has the same content, by its record."""
    return next(recorded(file, models_dir), None) is not None


def take_over(
    file: HubFile,
    target: Path,
    *,
    models_dir: Path,
    from_dirs: Sequence[Path],
    on_event: OnEvent,
    check: Callable[[Path], object],
) -> bool:
    """Puts a file with the content of `file` to `target`, if this machine has one.

    One of the models directory becomes a hard link, where the file system has them; one of
    `from_dirs` is copied. `check` sees it before it has its name, and may raise. Small
    files, which hubs name by another hash, are not looked for. Raises `OSError`.
    """
    if file.sha256 is None:
        return False
    own = ((path, True) for path in recorded(file, models_dir))
    others = ((path, False) for folder in from_dirs for path in _of_size(folder, file.num_bytes))
    for path, is_ours in (*own, *others):
        checking = ProgressEvents(f"checking {path.name}", file.num_bytes, on_event)
        if path == target or not _has_content(path, file.sha256, checking):
            continue
        on_event(StoreEvent(f"{file.name} is here already: taken from {path}"))
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(f".{target.name}.taken")
        unfinished.unlink(missing_ok=True)
        try:
            if is_ours:
                link_or_copy(path, unfinished)
            else:
                copying = ProgressEvents(f"copying {file.name}", file.num_bytes, on_event)
                copy(path, unfinished, copying)
            check(unfinished)
            unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)
        return True
    return False


def recorded(file: HubFile, models_dir: Path) -> Iterator[Path]:
    """Files of the models directory with that content, by the records of their folders."""
    folders = sorted(models_dir.iterdir()) if models_dir.is_dir() else []
    for folder in folders:
        record = read_record(folder)
        for name, arrived in {} if record is None else record.files.items():
            path = folder / name
            if arrived.content_id == file.content_id and _size(path) == file.num_bytes:
                yield path


def _of_size(folder: Path, num_bytes: int) -> Iterator[Path]:
    """Below `folder`; links to elsewhere are not followed."""
    seen = 0
    for root, _folders, names in os.walk(folder):
        for name in sorted(names):
            seen += 1
            if seen > _MOST_FILES:
                return
            path = Path(root, name)
            if not path.is_symlink() and _size(path) == num_bytes:
                yield path


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size if path.is_file() else None
    except OSError:
        return None  # of a folder that we may not read


def _has_content(path: Path, sha256: str, on_progress: Callable[[int], None]) -> bool:
    try:
        return sha256_of(path, on_progress) == sha256
    except OSError:
        return False  # unreadable, as a stick that is going bad: the hub has it too

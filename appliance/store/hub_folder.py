"""Folders of the models directory that were filled from a hub or another program, each with
a record of where it is from. Asks no hub.

`NAME/hub.json` names the repository (or what stands for one there) that the folder belongs
to and every file that has arrived whole; a checkpoint lies in `NAME/checkpoint`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from appliance.store.event import OnEvent
from appliance.store.folder_lock import locked
from appliance.store.split import sets_of_names

RECORD_NAME = "hub.json"
CHECKPOINT = "checkpoint"
_FORMAT = 1


@dataclass(frozen=True)
class Arrived:
    """A file as it was downloaded."""

    name: str  # its path in the repository
    commit: str
    num_bytes: int
    content_id: str  # the hash it was checked by


@dataclass(frozen=True)
class HubRecord:
    """Where a folder is from."""

    repo: str
    files: Mapping[str, Arrived] = field(default_factory=dict)  # by path in the folder
    # quantizations that a checkpoint is wanted in; empty unless it is there as a whole
    types: tuple[str, ...] = ()


def find_folder(models_dir: Path, repo: str) -> Path | None:
    """The folder that belongs to a repository; None if there is none yet."""
    for folder in _candidates(models_dir, repo):
        record = read_record(folder)
        if record is not None and record.repo.lower() == repo.lower():
            return folder
    return None


def new_folder(models_dir: Path, repo: str, reserved: frozenset[str] = frozenset()) -> Path:
    """Where a repository that has no folder is to go: its own name, made longer where
    that is taken or `reserved`.
    """
    *plain, longest = _candidates(models_dir, repo)
    return next(
        (folder for folder in plain if folder.name not in reserved and not folder.exists()), longest
    )


def claim_folder(models_dir: Path, repo: str, reserved: frozenset[str], on_event: OnEvent) -> Path:
    """The folder of a repository, made if need be: two processes at once get the same.

    Raises `OSError`.
    """
    models_dir.mkdir(parents=True, exist_ok=True)
    with locked(models_dir, "creating a folder in", on_event):
        folder = find_folder(models_dir, repo)
        if folder is None:
            folder = new_folder(models_dir, repo, reserved)
            folder.mkdir(exist_ok=True)
            write_record(folder, HubRecord(repo))
        return folder


def read_record(folder: Path) -> HubRecord | None:
    """None for an absent or unreadable record: then the folder is nobody's."""
    try:
        data = json.loads((folder / RECORD_NAME).read_text(encoding="utf-8"))
        if data["format"] != _FORMAT:
            return None
        files = {
            str(path): Arrived(
                str(row["name"]), str(row["commit"]), int(row["bytes"]), str(row["hash"])
            )
            for path, row in data["files"].items()
        }
        return HubRecord(str(data["repo"]), files, tuple(str(name) for name in data["types"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write_record(folder: Path, record: HubRecord) -> None:
    """Raises `OSError`."""
    files = {
        path: {
            "name": file.name,
            "commit": file.commit,
            "bytes": file.num_bytes,
            "hash": file.content_id,
        }
        for path, file in record.files.items()
    }
    data = {"format": _FORMAT, "repo": record.repo, "files": files, "types": list(record.types)}
    temporary = folder / f".{RECORD_NAME}.{os.getpid()}"
    with temporary.open("w", encoding="utf-8") as file:
        file.write(json.dumps(data, indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())  # without its record, all that the folder holds would be nobody's
    temporary.replace(folder / RECORD_NAME)


def pulled_models(folder: Path, record: HubRecord) -> Iterator[Path]:
    """The GGUF files that were fetched and are there, whole
    as far as their size shows; of a model in parts the first, if all are.
    """
    there = [
        name
        for name, arrived in sorted(record.files.items())
        if name.endswith(".gguf") and _has_size(folder / name, arrived.num_bytes)
    ]
    models, _missing = sets_of_names(there)
    yield from (folder / names[0] for names in models.values())


def _has_size(path: Path, num_bytes: int) -> bool:
    return path.is_file() and path.stat().st_size == num_bytes


def _candidates(models_dir: Path, repo: str) -> tuple[Path, ...]:
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", repo.rpartition("/")[2]).lstrip(".-") or "model"
    digest = hashlib.sha256(repo.lower().encode()).hexdigest()[:6]
    return models_dir / name, models_dir / f"{name}-{digest}"

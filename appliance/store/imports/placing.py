"""A model that was found, put into a folder of the models directory without a second copy.

Chooses no model. The folder has a record as one that was filled from a hub has, so a later
pull takes what is there already.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from appliance.errors import BadModelFile, SetupError
from appliance.store.copies.same_content import recorded
from appliance.store.copies.second_place import copy, sha256_of, share
from appliance.store.event import OnEvent, ProgressEvents
from appliance.store.folder_lock import locked
from appliance.store.free_space import check_space
from appliance.store.hub.records import HubFile
from appliance.store.hub_folder import Arrived, claim_folder, read_record, write_record
from appliance.store.imports.found import FoundFile, FoundModel
from appliance.store.servable import gguf_files

_COMMIT = "imported"  # no commit of a hub is known


class Way(Enum):
    """How it came."""

    HERE = "is here already"
    SHARED = "linked, not copied"
    COPIED = "copied"


@dataclass(frozen=True)
class Placed:
    folder: Path
    way: Way


@dataclass(frozen=True, kw_only=True)
class Placing:
    """Where models go, and whether they may take space."""

    models_dir: Path
    reserved: frozenset[str]  # names that no folder must have
    copies: bool
    on_event: OnEvent


def place(model: FoundModel, placing: Placing) -> Placed:
    """Its content is compared with the hash that its program keeps it by; what is here
    already, from wherever, is not taken twice.

    Raises `BadModelFile` for content with another hash, `SetupError` where the file system
    cannot share it or there is no room.
    """
    hashed = [_hashed(file, placing.on_event) for file in model.files]
    twin = _twin(hashed, placing.models_dir)
    if twin is not None:
        return Placed(twin, Way.HERE)
    with _in_our_words(model, placing):
        folder = claim_folder(placing.models_dir, model.origin, placing.reserved, placing.on_event)
        with locked(folder, "importing into", placing.on_event):
            put = _put_all(model, hashed, folder, placing)
    way = Way.COPIED if placing.copies else Way.SHARED
    return Placed(folder, way if put else Way.HERE)


def _hashed(file: FoundFile, on_event: OnEvent) -> HubFile:
    """As a hub would announce it."""
    num_bytes = file.path.stat().st_size
    progress = ProgressEvents(f"checking {file.name}", num_bytes, on_event)
    sha256 = sha256_of(file.path, progress)
    if file.sha256 not in (None, sha256):
        raise BadModelFile(
            f"{file.path} has the SHA-256 {sha256}, which is not its name: it is damaged. "
            "Download it again there."
        )
    return HubFile(file.name, num_bytes, sha256, sha256)


def _twin(files: list[HubFile], models_dir: Path) -> Path | None:
    """A folder that holds this model and no other."""
    for path in recorded(files[0], models_dir):
        others = [path.with_name(file.name).is_file() for file in files[1:]]
        if all(others) and gguf_files(path.parent) == (path,):
            return path.parent
    return None


def _put_all(model: FoundModel, hashed: list[HubFile], folder: Path, placing: Placing) -> bool:
    """Whether any of them was not there yet."""
    try:
        pairs = zip(model.files, hashed, strict=True)
        num_new = sum(_put(file, announced, folder, placing) for file, announced in pairs)
    except (OSError, SetupError):
        if not gguf_files(folder):
            shutil.rmtree(folder)  # a folder without a model is nobody's
        raise
    return num_new > 0


def _put(file: FoundFile, announced: HubFile, folder: Path, placing: Placing) -> bool:
    """Whether it was not there yet."""
    target = folder / file.name
    if target in recorded(announced, placing.models_dir):
        return False
    unfinished = folder / f".{file.name}.imported"
    unfinished.unlink(missing_ok=True)
    source = file.path.resolve()  # a link to a symbolic link would be one
    try:
        if placing.copies:
            check_space(folder, announced.num_bytes, f"{file.name} takes")
            text = f"copying {file.name}"
            copy(source, unfinished, ProgressEvents(text, announced.num_bytes, placing.on_event))
        else:
            share(source, unfinished)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
    record = read_record(folder)
    assert record is not None  # it is ours, and locked
    arrived = Arrived(file.name, _COMMIT, announced.num_bytes, announced.content_id)
    write_record(folder, replace(record, files={**record.files, file.name: arrived}))
    return True


@contextlib.contextmanager
def _in_our_words(model: FoundModel, placing: Placing) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SetupError(_why(error, model, placing)) from error


def _why(error: OSError, model: FoundModel, placing: Placing) -> str:
    source = model.files[0].path
    if error.errno == errno.EXDEV:
        return (
            f"{source} and {placing.models_dir} are on different file systems, which cannot "
            f"share a file. Name a --models-dir on that one, or give --copy, which takes "
            f"{model.num_bytes / 1e9:.2f} GB."
        )
    if error.errno in (errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOTSUP):
        return (
            f"{source} cannot be linked into {placing.models_dir} ({error.strerror}): it belongs "
            "to another user, or the file system has no hard links. Run this with sudo, or give "
            f"--copy, which takes {model.num_bytes / 1e9:.2f} GB."
        )
    return (
        f"{error.filename or placing.models_dir} cannot be used: {error.strerror}. Check its "
        "permissions and the disk, or use another --models-dir."
    )

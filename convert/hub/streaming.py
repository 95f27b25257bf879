"""A checkpoint on a hub as a folder that has all of it but the weights, which are read from there.

Knows no model family.

What describes the model (`config.json`, the tokenizer, ...) is small: it is fetched into a folder
for the time of the conversion. In the place of each file of weights stands an empty one.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from convert.errors import ConvertError, DamagedCheckpoint, HubRefused, UnsupportedModel
from convert.hub.journal import Streamed
from convert.hub.names import HubName
from convert.hub.ranges import read_range
from convert.hub.repository import HubFile, Repository, read_repository
from convert.hub.windows import RemoteBytes, Windows
from convert.safetensors_file import SafetensorsFile
from convert.source.descriptions import describes

_WEIGHTS = ".safetensors"
_TOLD = (".bin", ".pth", ".pt", ".safetensors")  # by their names alone, what else is there
_MAX_DESCRIPTION_BYTES = 128 << 20  # the largest tokenizers take some 30 MiB


@dataclass(frozen=True)
class HubCheckpoint:
    """A folder to convert, and how its weights are read."""

    folder: Path
    streamed: Streamed


@contextlib.contextmanager
def hub_checkpoint(name: HubName, max_ram_bytes: int, num_threads: int) -> Iterator[HubCheckpoint]:
    """Raises `HubRefused`, `HubLost`, `SourceChanged`; what is said of the folder inside is said
    of the repository.
    """
    repository = read_repository(name)
    _check_is_checkpoint(repository)
    with TemporaryDirectory(prefix="appliance-convert-") as parent:
        folder = Path(parent) / name.folder_name
        folder.mkdir()
        try:
            _fill(folder, repository)
            windows = Windows(max_ram_bytes, num_threads)
            streamed = Streamed(
                repo=repository.repo,
                commit=repository.commit,
                is_asked_for=name.revision is not None,
                open_weights=lambda path: _open_weights(repository, path, windows),
                kept_bytes=windows.max_bytes,
                stop=windows.stop,
            )
            with contextlib.closing(windows):
                yield HubCheckpoint(folder, streamed)
        except ConvertError as error:
            error.args = (str(error).replace(str(folder), repository.repo),)
            raise


def _check_is_checkpoint(repository: Repository) -> None:
    names = [file.name for file in repository.files]
    if "config.json" in names:
        return
    repo = repository.repo
    if any(name.endswith(".gguf") for name in names):
        raise UnsupportedModel(
            f"{repo} has GGUF files, which need no conversion. Serve one: appliance serve {repo}"
        )
    raise HubRefused(
        f"{repo} is no checkpoint: it has no config.json. Choose the repository of the model "
        "itself, with config.json and safetensors files."
    )


def _fill(folder: Path, repository: Repository) -> None:
    for file in repository.files:
        target = folder / file.name
        if file.name.endswith(_TOLD) and "/" not in file.name:
            target.touch()
        elif describes(file.name):
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(_description(repository, file))


def _description(repository: Repository, file: HubFile) -> bytes:
    if file.num_bytes > _MAX_DESCRIPTION_BYTES:
        raise HubRefused(
            f"{file.name} of {repository.repo} has {file.num_bytes} bytes, and at most "
            f"{_MAX_DESCRIPTION_BYTES} are read of such a file. Choose another repository."
        )
    data = read_range(repository, file, 0, file.num_bytes)
    if len(file.content_id) == 64:
        found = hashlib.sha256(data).hexdigest()
    else:  # a git blob's name (git-scm.com/book, Git Objects)
        blob = b"blob %d\0" % len(data) + data
        found = hashlib.sha1(blob, usedforsecurity=False).hexdigest()
    if found != file.content_id:
        raise DamagedCheckpoint(
            f"{file.name} of {repository.repo} arrived with the hash {found}, and the hub's list "
            f"says {file.content_id}. Try again; if that does not help, choose another repository."
        )
    return bytes(data)


def _open_weights(repository: Repository, path: Path, windows: Windows) -> SafetensorsFile:
    """The file whose place `path` holds."""
    file = next(file for file in repository.files if file.name == path.name)
    remote = RemoteBytes(repository, file, windows)
    opened = SafetensorsFile(path, remote)
    remote.place((t.offset, t.offset + t.num_bytes) for t in opened.tensors.values())
    return opened

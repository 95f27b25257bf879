"""Files of a repository into their folder of the models directory,
each whole or not there.

Chooses nothing.

While it goes on everything lies in `NAME/.pull`; a checkpoint gets its name when all of
its files are there.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from appliance.errors import BadModelFile, PullFailed, SetupError
from appliance.store.copies.same_content import has_twin, take_over
from appliance.store.event import OnEvent, ProgressEvents
from appliance.store.fetch import PARTIAL_SUFFIX, fetch_file
from appliance.store.folder_lock import locked
from appliance.store.free_space import check_space
from appliance.store.gguf_header import read_header
from appliance.store.hub.records import HubFile, Repository
from appliance.store.hub_contents import HubGguf, find_descriptions, find_weights
from appliance.store.hub_folder import (
    CHECKPOINT,
    Arrived,
    HubRecord,
    claim_folder,
    read_record,
    write_record,
)
from appliance.store.servable import check_servable, read_servable_header
from appliance.store.vocabulary.checks import check_vocabulary_tokens
from convert.source.descriptions import CARD, INDEX_FILE

_UNFINISHED = ".pull"


@dataclass(frozen=True)
class Destination:
    """Where a repository goes: to a folder of its own."""

    models_dir: Path
    reserved: frozenset[str]  # names that the folder must not have
    from_dirs: tuple[Path, ...] = ()  # that may hold copies of what is wanted, as a USB stick


def pull_gguf(repository: Repository, model: HubGguf, to: Destination, on_event: OnEvent) -> Path:
    """Fetches the files of one model in GGUF, as far as they are not there; returns where
    the first is.

    Raises `SetupError` where there is no room, `PullFailed` and `BadSettings` as
    `fetch_file` does, and `BadModelFile`.
    """
    with _pulling(repository, to, on_event) as folder:
        record = _record(folder)
        files = {file.name.rpartition("/")[2]: file for file in model.files}
        first = folder / next(iter(files))
        there = [name for name, file in files.items() if _is_there(folder, record, name, file)]
        if len(there) == len(files) and _is_readable(first):
            return first
        wanted = [file for name, file in files.items() if not _is_kept(folder / name, name, there)]
        unfinished = _prepare(folder, wanted)
        needed = _missing_bytes(wanted, unfinished, to)
        check_space(folder, needed, f"{model.name} takes")
        pulling = _Pulling(repository, to, unfinished, on_event)
        for name, file in files.items():
            if file in wanted:
                _fetch_gguf(pulling, file, folder / name)
        read_servable_header(first)
        shutil.rmtree(unfinished)
        return first


def pull_checkpoint(
    repository: Repository, wanted: Mapping[str, int], to: Destination, on_event: OnEvent
) -> Path:
    """Fetches a checkpoint, unless it is there;
    returns the folder that has it in `checkpoint`.

    `wanted` are the types it is to be converted to, with the bytes of those files, for
    which there must be room too. Raises what `pull_gguf` raises.
    """
    with _pulling(repository, to, on_event) as folder:
        record = _record(folder)
        types = tuple(dict.fromkeys((*record.types, *wanted)))
        descriptions = find_descriptions(repository)
        staged = folder / _UNFINISHED / repository.commit
        if not _is_complete(folder, record, descriptions, repository):
            unfinished = _prepare(folder, repository.files, keep=staged.name)
            pulling = _Pulling(repository, to, unfinished, on_event)
            _fetch_all(pulling, descriptions, staged)
            weights = find_weights(repository, _index(staged))
            missing = [file for file in weights if not (staged / file.name).exists()]
            needed = _missing_bytes(missing, unfinished, to)
            check_space(
                folder,
                needed + sum(wanted.values()),
                "The checkpoint and what it is converted to take",
            )
            _fetch_all(pulling, weights, staged)
            _replace_folder(staged, folder / CHECKPOINT)
            arrived = {
                f"{CHECKPOINT}/{file.name}": _arrived(repository, file)
                for file in (*descriptions, *weights)
            }
            write_record(folder, replace(record, files=arrived, types=types))
            shutil.rmtree(unfinished)
        elif types != record.types:
            write_record(folder, replace(record, types=types))
        return folder


@dataclass(frozen=True)
class _Pulling:
    """What the files of one pull have in common."""

    repository: Repository
    to: Destination
    unfinished: Path
    on_event: OnEvent

    def obtain(
        self, file: HubFile, target: Path, check: Callable[[Path], object] = Path.stat
    ) -> None:
        """From this machine, where it has the same content already, else from the hub."""
        is_taken = take_over(
            file,
            target,
            models_dir=self.to.models_dir,
            from_dirs=self.to.from_dirs,
            on_event=self.on_event,
            check=check,
        )
        if not is_taken:
            text = f"downloading {file.name}"
            progress = ProgressEvents(text, file.num_bytes, self.on_event)
            fetch_file(self.repository, file, target, self.unfinished, progress, check)


def _fetch_gguf(pulling: _Pulling, file: HubFile, target: Path) -> None:
    pulling.obtain(file, target, _check_part)
    record = _record(target.parent)
    arrived = {**record.files, target.name: _arrived(pulling.repository, file)}
    write_record(target.parent, replace(record, files=arrived))


def _check_part(path: Path) -> None:
    """As far as one file shows: the others of its model may not be there yet."""
    header = read_header(path)
    check_servable(header)
    check_vocabulary_tokens(header)


@contextlib.contextmanager
def _pulling(repository: Repository, to: Destination, on_event: OnEvent) -> Iterator[Path]:
    """The repository's folder, locked."""
    try:
        folder = claim_folder(to.models_dir, repository.id, to.reserved, on_event)
        with locked(folder, "pulling into", on_event):
            yield folder
    except OSError as error:
        raise SetupError(
            f"{error.filename or to.models_dir} cannot be used: {error.strerror}. Check its "
            "permissions and the disk, or use another --models-dir."
        ) from error


def _record(folder: Path) -> HubRecord:
    record = read_record(folder)
    if record is None:
        raise PullFailed(
            f"The record of {folder} disappeared while we waited for another pull. Pull again."
        )
    return record


def _is_there(folder: Path, record: HubRecord, name: str, file: HubFile) -> bool:
    arrived, path = record.files.get(name), folder / name
    return (
        arrived is not None
        and (arrived.content_id, arrived.num_bytes) == (file.content_id, file.num_bytes)
        and path.is_file()
        and path.stat().st_size == file.num_bytes
    )


def _is_kept(path: Path, name: str, there: Sequence[str]) -> bool:
    """Whether a file that has arrived before is still a GGUF."""
    try:
        return name in there and bool(read_header(path))
    except BadModelFile:
        return False


def _is_readable(path: Path) -> bool:
    try:
        read_servable_header(path)
    except BadModelFile:
        return False
    return True


def _is_complete(
    folder: Path, record: HubRecord, descriptions: Sequence[HubFile], repository: Repository
) -> bool:
    """Whether the checkpoint that is there has the content of this commit."""
    known = {path.removeprefix(f"{CHECKPOINT}/") for path in record.files}
    # earlier versions did not fetch the card, which is no reason to fetch everything again
    if not {file.name for file in descriptions if file.name != CARD} <= known:
        return False
    files = {file.name: file for file in repository.files}
    return all(
        name in files and _is_there(folder, record, f"{CHECKPOINT}/{name}", files[name])
        for name in known
    )


def _prepare(folder: Path, files: Sequence[HubFile], keep: str = "") -> Path:
    """The folder for what is unfinished, without what was left there
    of anything but `files`.
    """
    unfinished = folder / _UNFINISHED
    unfinished.mkdir(exist_ok=True)
    wanted = {keep, *(f"{file.content_id}{PARTIAL_SUFFIX}" for file in files)}
    for path in unfinished.iterdir():
        if path.name not in wanted:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return unfinished


def _arrived_bytes(unfinished: Path, file: HubFile) -> int:
    partial = unfinished / f"{file.content_id}{PARTIAL_SUFFIX}"
    return min(partial.stat().st_size, file.num_bytes) if partial.exists() else 0


def _missing_bytes(files: Sequence[HubFile], unfinished: Path, to: Destination) -> int:
    """What they will take on the disk; what becomes a hard link takes nothing."""
    return sum(
        file.num_bytes - _arrived_bytes(unfinished, file)
        for file in files
        if not has_twin(file, to.models_dir)
    )


def _fetch_all(pulling: _Pulling, files: Sequence[HubFile], staged: Path) -> None:
    """Those that are there were checked when they got their names."""
    for file in files:
        target = staged / file.name
        if not target.exists():
            pulling.obtain(file, target)


def _index(staged: Path) -> bytes | None:
    index = staged / INDEX_FILE
    return index.read_bytes() if index.exists() else None


def _replace_folder(staged: Path, target: Path) -> None:
    """Puts a whole folder in the place of an older one,
    which may be a commit's before.
    """
    old = staged.with_name("old")
    if target.exists():
        target.rename(old)
    staged.rename(target)


def _arrived(repository: Repository, file: HubFile) -> Arrived:
    return Arrived(file.name, repository.commit, file.num_bytes, file.content_id)

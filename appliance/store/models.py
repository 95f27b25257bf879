"""Which GGUF files a MODEL argument means:
a name, a path, a checkpoint, a hub's repository.

Asks no hub.

The models directory holds one folder per model, `NAME/NAME-TYPE.gguf`; in one that was
filled from a hub, the files keep the names they have there.
"""

from __future__ import annotations

import difflib
import glob
import hashlib
import re
import shutil
from pathlib import Path

from appliance.errors import BadModelFile, BadSettings, SetupError
from appliance.store.catalog import Catalog, CatalogEntry
from appliance.store.conversion import (
    Conversion,
    ensure_converted,
    is_converted,
    recorded_source,
    recorded_types,
)
from appliance.store.event import OnEvent
from appliance.store.gguf_header import read_header
from appliance.store.hub_folder import (
    CHECKPOINT,
    HubRecord,
    find_folder,
    new_folder,
    pulled_models,
    read_record,
)
from appliance.store.hub_id import HubId, matching, parse_hub_id
from appliance.store.known.names import find_repository, near_names
from appliance.store.model_source import KnownModel, ModelSource
from appliance.store.servable import gguf_files, only_model, read_servable_header
from appliance.store.split import first_part, model_name

DEFAULT_TYPES = ("Q8_0", "Q4_K_M", "Q2_K")


class ModelStore:
    """The models directory and the catalog, seen as one collection of named models."""

    def __init__(self, models_dir: Path, catalog: Catalog) -> None:
        self._models_dir = models_dir
        self._catalog = catalog

    def resolve(self, argument: str) -> ModelSource:
        """What `argument` means: a known name, else a path, else a hub's
        `org/repo[:CHOICE]`, also by its name in the catalog of hub models.

        Raises `BadSettings` listing the known names, `BadModelFile` for a path that
        cannot be served, `SetupError` for a model whose package is not installed.
        """
        named = self._by_name(argument)
        if named is not None:
            return named
        path = Path(argument)
        if path.is_dir():
            return self._from_directory(path)
        if path.is_file() or argument.endswith(".gguf"):
            return _from_file(path)
        hub_id = find_repository(argument)
        if hub_id is not None:
            return self.resolve_hub(hub_id)
        raise self._unknown(argument)

    def resolve_hub(self, hub_id: HubId) -> ModelSource:
        """What is here of a repository; nothing yet, perhaps. Asks no hub."""
        folder = find_folder(self._models_dir, hub_id.repo)
        if folder is None:
            folder = new_folder(self._models_dir, hub_id.repo, self.reserved_names)
            return ModelSource(name=folder.name, directory=folder, files=(), hub=hub_id)
        record = read_record(folder)
        if record is not None and record.types and (folder / CHECKPOINT / "config.json").is_file():
            return _from_pulled_checkpoint(folder, record, hub_id)
        found = {
            f"{model_name(path)}.gguf": path
            for path in (pulled_models(folder, record) if record is not None else ())
        }
        if hub_id.choice is not None:
            chosen = matching(
                hub_id.choice, {name: _quantization(path) for name, path in found.items()}
            )
            found = {name: found[name] for name in chosen}
        return ModelSource(
            name=folder.name, directory=folder, files=tuple(found.values()), hub=hub_id
        )

    def remove(self, name: str) -> Path:
        """Deletes the folder of a model, given by its name or as a hub's `org/repo`, also by
        its name in the catalog of hub models; returns what was deleted.

        Raises `BadSettings` for what is no folder of the models directory, `SetupError`
        if it cannot be deleted.
        """
        folder = self.removable_folder(name)
        if folder is None:
            raise self._not_removable(name)
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise SetupError(
                f"{error.filename or folder} cannot be deleted: {error.strerror}. Check its "
                "permissions."
            ) from error
        return folder

    def removable_folder(self, name: str) -> Path | None:
        """What `remove` would delete; None where it would refuse."""
        is_folder = name in self._removable_names()
        hub_id = parse_hub_id(name) if is_folder else find_repository(name)
        folder = (
            find_folder(self._models_dir, hub_id.repo)
            if hub_id is not None and hub_id.choice is None
            else None
        )
        return self._models_dir / name if folder is None and is_folder else folder

    def _not_removable(self, name: str) -> BadSettings:
        entry = self._catalog.find(name)
        if entry is not None and self.is_here(entry):
            origin = "appliance" if entry.packaged is None else f"package {entry.packaged.name}"
            return BadSettings(
                f"{name} comes with the {origin}, and nothing of it is in {self._models_dir}: only "
                "what is there can be deleted."
            )
        known = ", ".join(sorted(self._removable_names())) or "none"
        return BadSettings(
            f"There is no model {name!r} in {self._models_dir}. The models there are: {known}."
        )

    def _removable_names(self) -> set[str]:
        """Of folders with models, and of those whose pull was ended."""
        if not self._models_dir.is_dir():
            return set()
        pulled = {
            folder.name for folder in self._models_dir.iterdir() if read_record(folder) is not None
        }
        return self._folder_names() | pulled

    @property
    def reserved_names(self) -> frozenset[str]:
        """Names of folders that are the catalog's,
        whether they are there yet or not.
        """
        return frozenset(entry.name for entry in self._catalog.entries)

    def list_models(self) -> tuple[KnownModel, ...]:
        """Every model that has a name here, in order of names, but those that are there
        to draft for others.
        """
        names = {entry.name for entry in self._catalog.entries} | self._folder_names()
        names -= {entry.name for entry in self._catalog.entries if entry.only_drafts}
        return tuple(self._known(name) for name in sorted(names))

    def is_here(self, entry: CatalogEntry) -> bool:
        """Whether it can be served without installing anything more."""
        return entry.packaged is None or bool(self._files_of(entry))

    def _known(self, name: str) -> KnownModel:
        entry = self._catalog.find(name)
        if entry is not None:
            packaged = entry.packaged
            return KnownModel(
                name=name,
                description=entry.description,
                files=self._files_of(entry),
                licence=entry.licence,
                way_to_get="" if packaged is None or self.is_here(entry) else packaged.way_to_get,
            )
        source = recorded_source(self._models_dir / name)
        origin = f"converted from {source}" if source is not None else "GGUF files"
        record = read_record(self._models_dir / name)
        if record is not None:
            origin = f"from {record.repo}"
        return KnownModel(name=name, description=origin, files=gguf_files(self._models_dir / name))

    def _folder_names(self) -> set[str]:
        if not self._models_dir.is_dir():
            return set()
        return {folder.name for folder in self._models_dir.iterdir() if gguf_files(folder)}

    def _by_name(self, name: str) -> ModelSource | None:
        entry = self._catalog.find(name)
        if entry is not None:
            return self._from_catalog(entry)
        if name in self._folder_names():
            return self._from_folder(name)
        return None

    def _from_folder(self, name: str) -> ModelSource:
        """With the checkpoint it was converted from, where that still is: what is
        damaged can be made again.
        """
        directory = self._models_dir / name
        files = gguf_files(directory)
        checkpoint = recorded_source(directory)
        if checkpoint is None or not (checkpoint / "config.json").is_file():
            return ModelSource(name=name, directory=directory, files=files)
        return ModelSource(
            name=name,
            directory=directory,
            files=files,
            checkpoint=checkpoint,
            types=recorded_types(directory),
        )

    def _from_catalog(self, entry: CatalogEntry) -> ModelSource:
        if entry.packaged is not None and not self.is_here(entry):
            raise SetupError(
                f"{entry.name} is not installed: it comes with the package "
                f"{entry.packaged.package}. Run '{entry.packaged.way_to_get}'."
            )
        return ModelSource(
            name=entry.name,
            directory=self._models_dir / entry.name,
            files=self._files_of(entry),
            checkpoint=entry.checkpoint,
            types=entry.types,
        )

    def _files_of(self, entry: CatalogEntry) -> tuple[Path, ...]:
        """What somebody put into a folder of that name goes before a package's file."""
        own = gguf_files(self._models_dir / entry.name)
        found = None if own or entry.packaged is None else entry.packaged.find()
        return own if found is None else (found,)

    def _from_directory(self, path: Path) -> ModelSource:
        model = None if (path / "config.json").is_file() else only_model(path)
        if model is not None:
            return _from_file(model)
        entry = self._catalog.find_checkpoint(path)
        if entry is not None:
            return self._from_catalog(entry)
        checkpoint = path.resolve()
        name = self._name_for(checkpoint)
        directory = self._models_dir / name
        return ModelSource(
            name=name,
            directory=directory,
            files=gguf_files(directory),
            checkpoint=checkpoint,
            types=DEFAULT_TYPES,
        )

    def _name_for(self, checkpoint: Path) -> str:
        """The directory's own name, made longer where that folder belongs to something
        else already.
        """
        name = _checkpoint_name(checkpoint)
        folder = self._models_dir / name
        taken = self._catalog.find(name) is not None or (
            folder.exists() and recorded_source(folder) != checkpoint
        )
        if not taken:
            return name
        return f"{name}-{hashlib.sha256(str(checkpoint).encode()).hexdigest()[:6]}"

    def _unknown(self, argument: str) -> BadSettings:
        known = [model.name for model in self.list_models()]
        near = difflib.get_close_matches(argument, known, n=1) or near_names(argument)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        return BadSettings(
            f"There is no model {argument!r}: it is neither a file or directory nor a known name. "
            f"Known names: {', '.join(known)}.{hint}"
        )


def prepare_files(source: ModelSource, quant: str | None, on_event: OnEvent) -> tuple[Path, ...]:
    """The files to choose from, converted first where they are absent or outdated (only
    `quant`, if that is asked for).

    Raises what `ensure_converted` raises.
    """
    conversion = _conversion(source, quant)
    if conversion is None:
        return source.files
    converted = ensure_converted(conversion, on_event, check=read_servable_header)
    if source.hub is not None and source.hub.choice is not None:
        return converted
    return gguf_files(source.directory)


def are_prepared(source: ModelSource, quant: str | None) -> bool:
    """Whether `prepare_files` would find every file in place.

    Raises `SetupError` where files cannot be read.
    """
    conversion = _conversion(source, quant)
    return not source.must_be_pulled and (
        conversion is None or is_converted(conversion, read_servable_header)
    )


def _conversion(source: ModelSource, quant: str | None) -> Conversion | None:
    """What is to be made of the model's checkpoint, where it has one."""
    if source.checkpoint is None:
        return None
    return Conversion(
        source.name,
        source.checkpoint,
        source.directory,
        source.types if quant is None else (quant,),
    )


def _from_pulled_checkpoint(folder: Path, record: HubRecord, hub_id: HubId) -> ModelSource:
    types = record.types if hub_id.choice is None else (hub_id.choice.upper(),)
    return ModelSource(
        name=folder.name,
        directory=folder,
        files=gguf_files(folder),
        checkpoint=folder / CHECKPOINT,
        types=types,
        hub=hub_id,
    )


def _quantization(path: Path) -> str | None:
    """None for a damaged file, which is refused where it is read to be served."""
    try:
        return read_header(path).quantization
    except BadModelFile:
        return None


def _from_file(path: Path) -> ModelSource:
    """Any part of a model in several stands for the model."""
    parts = sorted(path.parent.glob(f"{glob.escape(path.stem)}-00001-of-*.gguf"))
    path = first_part(path) if path.is_file() or not parts else parts[0]
    if not path.is_file():
        raise BadModelFile(f"{path} does not exist. Check the path.")
    return ModelSource(name=model_name(path), directory=path.parent, files=(path,))


def _checkpoint_name(checkpoint: Path) -> str:
    """The directory's name; in a Hugging Face cache (models--ORG--NAME/snapshots/HASH)
    the repository's.
    """
    name = checkpoint.name
    repository = checkpoint.parent.parent.name
    if checkpoint.parent.name == "snapshots" and repository.startswith("models--"):
        name = repository.split("--")[-1]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).lstrip(".-") or "model"

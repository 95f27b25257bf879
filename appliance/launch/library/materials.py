"""Files that were sent, put where a model of them is found.

Knows no server and converts nothing.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from appliance.errors import BadModelFile, BadRequest, SetupError
from appliance.launch.library.blobs import Blobs
from appliance.store.catalog import load_catalog
from appliance.store.models import ModelStore
from appliance.store.servable import gguf_files, read_servable_header

_CHECKPOINTS = ".checkpoints"  # of the models directory: what is to be converted
_DESCRIPTION = "config.json"


def materials_in(models_dir: Path, name: str, files: Mapping[str, str], blobs: Blobs) -> str:
    """How the model that is made of them is named on the command line.

    Raises `BadRequest` for files that are no model, or were not sent; `SetupError`.
    """
    names = {Path(file).name: digest for file, digest in files.items()}
    if len(names) < len(files) or "" in names:
        raise BadRequest("Invalid 'files': each needs a name of its own.", param="files")
    folder_name = _folder_name(models_dir, name)
    is_checkpoint = _DESCRIPTION in names
    if not is_checkpoint and len(names) == 1:  # clients name a GGUF as they like
        names = {f"{folder_name}.gguf": digest for digest in names.values()}
    folder = models_dir / _CHECKPOINTS / folder_name if is_checkpoint else models_dir / folder_name
    for digest in names.values():
        if not blobs.path_of(digest).is_file():
            raise BadRequest(f"There is no file {digest}: send it to /api/blobs first.")
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for file, digest in names.items():
            blobs.move(digest, folder / file)
    except OSError as error:
        raise SetupError(f"{folder} cannot be written: {error.strerror}.") from error
    if is_checkpoint:
        return str(folder)
    _check(folder)
    return folder_name


def _check(folder: Path) -> None:
    try:
        files = gguf_files(folder)
        if not files:
            raise BadModelFile(
                f"there is neither a GGUF among them nor a checkpoint's {_DESCRIPTION}"
            )
        for file in files:
            read_servable_header(file)
    except BadModelFile as error:
        shutil.rmtree(folder, ignore_errors=True)
        message = error.message.replace(f"{folder}/", "")  # where models lie is nobody's business
        raise BadRequest(f"Invalid 'files': {message}", param="files") from error


def _folder_name(models_dir: Path, name: str) -> str:
    """Made longer where that is somebody else's."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).lstrip(".-") or "model"
    reserved = ModelStore(models_dir, load_catalog()).reserved_names
    if plain in reserved or (models_dir / plain).exists():
        return f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"
    return plain

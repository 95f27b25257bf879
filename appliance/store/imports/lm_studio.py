"""What LM Studio keeps: GGUF files as their hub has them, in PUBLISHER/REPOSITORY.

Reads no model.

Source: https://lmstudio.ai/docs/basics/import-model (the folder's shape),
https://github.com/lmstudio-ai/lms, src/subcommands/importCmd.ts (where it is).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from appliance.errors import BadSettings
from appliance.store.imports.found import FoundModel, files_from
from appliance.store.servable import gguf_files, is_projector
from appliance.store.split import model_name

_POINTER = ".lmstudio-home-pointer"  # names LM Studio's folder, where it is elsewhere
_FOLDERS = (".lmstudio", ".cache/lm-studio")


def lm_studio_folder(home: Path) -> Path:
    """The folder of LM Studio's models. Raises `BadSettings` where there is none."""
    own = [home / name for name in _FOLDERS]
    pointed = _pointed(home / _POINTER)
    for folder in own if pointed is None else [pointed, *own]:
        models = _downloads(folder / "settings.json") or folder / "models"
        if models.is_dir():
            return models
    where = " or ".join(str(folder / "models") for folder in own)
    raise BadSettings(
        f"LM Studio has no models in {where}. If they are elsewhere, name that folder with "
        "--from-dir."
    )


def lm_studio_models(folder: Path) -> Iterator[FoundModel]:
    """In order of their names; projectors are none."""
    for repository in sorted(folder.glob("*/*")):
        origin = "/".join(repository.parts[-2:])
        files = [path for path in gguf_files(repository) if not is_projector(path.name)]
        for first in files:
            yield FoundModel(
                name=model_name(first),
                origin=origin,
                files=files_from(first),
                is_one_of_several=True,
            )
        if not files and next(repository.glob("*.safetensors"), None) is not None:
            yield FoundModel(
                name=repository.name,
                origin=origin,
                files=(),
                problem="it is kept for MLX, not as GGUF.",
            )


def _pointed(pointer: Path) -> Path | None:
    try:
        return Path(pointer.read_text(encoding="utf-8").strip())
    except (OSError, UnicodeDecodeError):
        return None


def _downloads(settings: Path) -> Path | None:
    """Where its settings say that models go."""
    try:
        folder = json.loads(settings.read_text(encoding="utf-8"))["downloadsFolder"]
        return Path(folder) if isinstance(folder, str) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None

"""Deletes what only one model needs of the models directory.

Knows no server.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from appliance.errors import ApplianceError
from appliance.launch.files import find_source
from appliance.launch.spec import ModelSpec
from appliance.store.model_source import ModelSource


def remove_files(spec: ModelSpec, others: Sequence[ModelSpec]) -> None:
    """Of the model that `spec` names, but nothing that one of `others` needs, and nothing
    outside of the models directory. What cannot be deleted stays.
    """
    source = _source(spec)
    if source is None:
        return
    needed = [found for other in others if (found := _source(other)) is not None]
    folder = source.directory
    if not _is_in(folder, spec.models_dir):
        return
    if all(other.directory != folder for other in needed):
        shutil.rmtree(folder, ignore_errors=True)
    else:
        kept = {file for other in needed for file in other.files}
        for file in source.files:
            if file not in kept:
                with contextlib.suppress(OSError):
                    file.unlink()
    checkpoint = source.checkpoint
    if checkpoint is not None and _is_hidden(checkpoint, spec.models_dir):
        shutil.rmtree(checkpoint, ignore_errors=True)


def _source(spec: ModelSpec) -> ModelSource | None:
    try:
        return find_source(spec)
    except ApplianceError:
        return None


def _is_in(folder: Path, models_dir: Path) -> bool:
    return folder.resolve().parent == models_dir.resolve()


def _is_hidden(checkpoint: Path, models_dir: Path) -> bool:
    """What was sent to be converted, which is ours."""
    return checkpoint.resolve().parent.parent == models_dir.resolve() and (
        checkpoint.parent.name.startswith(".")
    )

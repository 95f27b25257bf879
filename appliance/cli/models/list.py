"""`appliance list`: the models on this machine. Knows no memory and no hub."""

from __future__ import annotations

import json
from collections.abc import Sequence

from appliance.fit.plan.budget import readable
from appliance.launch.library.recipes import CreatedModel, CreatedModels
from appliance.settings import ServeSettings
from appliance.store.catalog import load_catalog
from appliance.store.model_source import KnownModel
from appliance.store.models import ModelStore
from appliance.store.split import files_of


def run(settings: ServeSettings, *, as_json: bool) -> int:
    models = [
        *ModelStore(settings.models_dir, load_catalog()).list_models(),
        *map(_as_known, CreatedModels(settings.models_dir).read()),
    ]
    if as_json:
        print(json.dumps([_record(model) for model in models], indent=2))
        return 0
    for line in _lines(models):
        print(line)
    return 0


def _as_known(created: CreatedModel) -> KnownModel:
    return KnownModel(
        name=created.name,
        description=f"another name of {created.argument}",
        files=(),
        alias_of=created.argument,
    )


def _record(model: KnownModel) -> dict[str, object]:
    """JSON data, sizes in bytes; `way_to_get` is empty for what is here."""
    files = [
        {"path": str(path), "bytes": sum(part.stat().st_size for part in files_of(path))}
        for path in model.files
    ]
    return {
        "name": model.name,
        "description": model.description,
        "licence": model.licence,
        "alias_of": model.alias_of or None,
        "way_to_get": model.way_to_get,
        "files": files,
    }


def _lines(models: Sequence[KnownModel]) -> list[str]:
    """A line for each model, and below it one for each of its files."""
    width = max((len(path.name) for model in models for path in model.files), default=0)
    lines: list[str] = []
    for model in models:
        lines.append(f"{model.name}: {model.description}{_remarks(model)}")
        lines += [
            f"  {path.name.ljust(width)}  "
            f"{readable(sum(part.stat().st_size for part in files_of(path)))}"
            for path in model.files
        ]
    return lines


def _remarks(model: KnownModel) -> str:
    """Its licence, and what is still to be done before it is served."""
    remarks = [model.licence] if model.licence else []
    if model.way_to_get:
        remarks.append(f"not installed: {model.way_to_get}")
    elif not model.files and not model.alias_of:
        remarks.append("will be converted when first served")
    return f" ({'; '.join(remarks)})" if remarks else ""

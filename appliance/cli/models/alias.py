"""`appliance alias`: names of one's own for models, kept as those of models that are created.

Knows no file of a model.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from appliance.cli.tables.table import table
from appliance.errors import BadRequest, BadSettings
from appliance.launch.library.recipes import CreatedModel, CreatedModels, new_name
from appliance.launch.names import model_spec
from appliance.settings import ServeSettings
from appliance.store.catalog import load_catalog
from appliance.store.hub_id import parse_hub_id
from appliance.store.known.names import find_repository
from appliance.store.models import ModelStore


def run(settings: ServeSettings, name: str | None, model: str | None, *, as_json: bool) -> int:
    """Raises `BadSettings` for a name that means something already, or a model that is none."""
    names = CreatedModels(settings.models_dir)
    if name is None:
        _show(names.read(), as_json=as_json)
        return 0
    if model is None:
        raise BadSettings(f"Of which model? 'appliance alias {name} MODEL' gives it that name.")
    created = _named(settings, name, model)
    names.write(created)
    print(f"{created.name} is {created.argument} from now on: appliance serve {created.name}")
    return 0


def _show(created: list[CreatedModel], *, as_json: bool) -> None:
    if as_json:
        records = [{"name": each.name, "model": each.argument} for each in created]
        print(json.dumps(records, indent=2))
    elif created:
        print(table([(each.name, each.argument) for each in created]))


def _named(settings: ServeSettings, name: str, model: str) -> CreatedModel:
    try:
        plain = new_name(name, "NAME")
    except BadRequest as error:
        raise BadSettings(error.message) from error
    own = {known.name for known in ModelStore(settings.models_dir, load_catalog()).list_models()}
    if plain in own:
        raise BadSettings(f"{plain} is a model's own name. Choose another one.")
    if parse_hub_id(plain) is None and (known_as := find_repository(plain)) is not None:
        raise BadSettings(
            f"{plain} is the catalog's name of {known_as.repo}. Choose another one, or give it for "
            f"one server: 'appliance serve MODEL --alias {plain}'."
        )
    older = CreatedModels(settings.models_dir).find(model)
    if older is not None:
        return replace(older, name=plain)
    model_spec(replace(settings, model=(model,)))  # raises where there is no such model
    path = Path(model)
    return CreatedModel(name=plain, argument=str(path.absolute()) if path.exists() else model)

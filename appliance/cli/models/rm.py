"""`appliance rm`: deletes a model from the models directory. Knows no file of it."""

from __future__ import annotations

from appliance.errors import BadSettings
from appliance.settings import ServeSettings
from appliance.store.catalog import load_catalog
from appliance.store.models import ModelStore


def run(settings: ServeSettings) -> int:
    if settings.first_model is None:
        raise BadSettings("Which model? Run 'appliance list' to see the names.")
    print(f"Deleted {ModelStore(settings.models_dir, load_catalog()).remove(settings.first_model)}")
    return 0

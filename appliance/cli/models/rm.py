"""`appliance rm`: deletes a model from the models directory, or a name of one.

Knows no file of it.
"""

from __future__ import annotations

from appliance.errors import BadSettings
from appliance.launch.library.recipes import CreatedModels
from appliance.settings import ServeSettings
from appliance.store.catalog import load_catalog
from appliance.store.models import ModelStore


def run(settings: ServeSettings) -> int:
    name = settings.first_model
    if name is None:
        raise BadSettings("Which model? Run 'appliance list' to see the names.")
    names = CreatedModels(settings.models_dir)
    store = ModelStore(settings.models_dir, load_catalog())
    created = names.find(name)
    if created is not None and created.argument != created.name:
        names.forget(created.name)
        origin = created.argument
        can_go = store.removable_folder(origin) is not None
        way = f": 'appliance rm {origin}' deletes its files" if can_go else ""
        print(f"Deleted the name {created.name}. The model is {origin}{way}.")
        return 0
    folder = store.remove(name)
    for other in names.read():
        if other.argument in (name, folder.name):
            names.forget(other.name)
            print(f"Deleted the name {other.name}")
    print(f"Deleted {folder}")
    return 0

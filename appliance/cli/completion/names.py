"""What a shell may offer where a model is named. Knows no shell."""

from __future__ import annotations

from pathlib import Path

from appliance.launch.library.recipes import CreatedModels
from appliance.store.catalog import load_catalog
from appliance.store.known.hub_models import load_hub_models
from appliance.store.models import ModelStore


def names_in(models_dir: Path) -> list[str]:
    """Of what is here, and of what the catalog knows."""
    names = {model.name for model in ModelStore(models_dir, load_catalog()).list_models()}
    names |= {model.name for model in CreatedModels(models_dir).read()}
    names |= {model.name for model in load_hub_models()}
    return sorted(names)
